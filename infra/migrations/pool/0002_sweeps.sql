-- What the services side found when it was asked to compare every vendor's inventory with its tables.

CREATE TABLE pool.sweeps (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT now(),
    result   jsonb NOT NULL
);
CREATE INDEX sweeps_by_time ON pool.sweeps (at);
