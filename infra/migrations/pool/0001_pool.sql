-- The pool side: what instances there should be, who has them, and when that changes.
-- Statuses are those of shared/pool/lifecycle.py; a test compares the two.

CREATE TABLE pool.instances (
    id               text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    status           text NOT NULL CHECK (status IN ('starting', 'idle', 'claiming', 'claimed', 'pending_acceptance',
                                                     'sleeping', 'tainted', 'crashed', 'dead', 'destroying')),
    status_since     timestamptz NOT NULL DEFAULT now(),
    reason           text,                              -- why it has this status, in words for an operator
    version          bigint NOT NULL DEFAULT 1,         -- grows with every write; every write names the one it replaces
    generation       bigint NOT NULL DEFAULT 0,         -- the fencing number of the latest hand-over
    built            boolean NOT NULL DEFAULT false,    -- the services side finished its creation
    introduced       boolean NOT NULL DEFAULT false,    -- somebody's instructions may have reached it
    protected        boolean NOT NULL DEFAULT false,
    current_image    boolean NOT NULL DEFAULT false,    -- it runs the desired image
    claim_id         uuid,
    not_after        timestamptz,                       -- the last moment at which services may still send
    lease_expires_at timestamptz,
    url              text,
    image            text,
    observed         text,                              -- the services side's last word on it (ServiceStatus)
    deploy_status    text,
    health_reason    text,
    failed_checks    integer NOT NULL DEFAULT 0 CHECK (failed_checks >= 0),
    failing_since    timestamptz,
    observed_at      timestamptz,                       -- when that last changed
    worked_at        timestamptz,                       -- when a tick last worked on its creation or destruction
    created_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT lease_while_claiming CHECK ((status = 'claiming') = (lease_expires_at IS NOT NULL)),
    CONSTRAINT send_before_lease_ends CHECK ((lease_expires_at IS NULL) = (not_after IS NULL) AND not_after < lease_expires_at),
    CONSTRAINT held_by_a_claim CHECK (claim_id IS NOT NULL OR status NOT IN ('claiming', 'claimed', 'pending_acceptance', 'crashed')),
    CONSTRAINT unclaimed_is_free CHECK (claim_id IS NULL OR status NOT IN ('starting', 'idle', 'sleeping')),
    CONSTRAINT nobody_gets_a_used_one CHECK (NOT introduced OR status NOT IN ('starting', 'idle', 'sleeping', 'claiming')),
    CONSTRAINT claimed_was_introduced CHECK (introduced OR status NOT IN ('claimed', 'pending_acceptance', 'crashed'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);

-- The order in which instances are handed out: the current image first, then the oldest (P10).
CREATE INDEX instances_to_claim ON pool.instances (current_image DESC, created_at, id) WHERE status = 'idle' AND NOT protected;
CREATE INDEX instances_by_lease ON pool.instances (lease_expires_at) WHERE status = 'claiming';
CREATE UNIQUE INDEX instances_one_per_claim ON pool.instances (claim_id)
    WHERE status IN ('claiming', 'claimed', 'pending_acceptance', 'crashed');

CREATE TABLE pool.claims (
    id              uuid PRIMARY KEY,
    status          text NOT NULL CHECK (status IN ('open', 'claimed', 'pending_acceptance', 'failed', 'ended')),
    owner_id        text,
    agent_name      text NOT NULL,
    instructions    text,                               -- deleted when the claim ends
    join_url        text,
    model           text,
    metadata        jsonb,
    instance_id     text,
    generation      bigint,
    attempts        integer NOT NULL DEFAULT 1 CHECK (attempts > 0),
    conversation_id text,
    invite_url      text,
    joined          boolean NOT NULL DEFAULT false,
    problem         text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    ended_at        timestamptz,
    CONSTRAINT finished_when_not_open CHECK ((status = 'open') = (finished_at IS NULL)),
    CONSTRAINT ended_has_a_time CHECK ((status = 'ended') = (ended_at IS NOT NULL)),
    CONSTRAINT ended_keeps_no_instructions CHECK (instructions IS NULL OR status NOT IN ('ended', 'failed'))
);
CREATE INDEX claims_open ON pool.claims (created_at) WHERE status = 'open';

CREATE TABLE pool.events (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL CHECK (kind ~ '^[a-z_]+\.[a-z_]+$'),
    instance_id text,
    claim_id    uuid,
    actor       text NOT NULL,
    details     jsonb
);
CREATE INDEX events_by_instance ON pool.events (instance_id, id) WHERE instance_id IS NOT NULL;
CREATE INDEX events_by_time ON pool.events (at);
-- How long the last ones took to become ready.
CREATE INDEX events_of_readiness ON pool.events (id) WHERE kind = 'instance.ready';

CREATE TABLE pool.ticks (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    outcome     text NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'done', 'held_back', 'failed')),
    seen        jsonb NOT NULL DEFAULT '{}',
    decided     jsonb NOT NULL DEFAULT '{}',
    done        jsonb NOT NULL DEFAULT '{}',
    warnings    jsonb NOT NULL DEFAULT '[]',
    CONSTRAINT finished_has_a_time CHECK ((outcome = 'running') = (finished_at IS NULL))
);
CREATE INDEX ticks_by_time ON pool.ticks (started_at);

CREATE TABLE pool.operations (
    id           uuid PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('kill', 'drain', 'redeploy', 'replenish')),
    status       text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done', 'failed')),
    instance_ids text[] NOT NULL DEFAULT '{}',          -- what it works on
    image        text,                                  -- for a redeployment: the image asked for
    problem      text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz,
    CONSTRAINT finished_has_a_time CHECK ((status = 'running') = (finished_at IS NULL))
);
CREATE INDEX operations_running ON pool.operations (created_at) WHERE status = 'running';
CREATE INDEX operations_by_instance ON pool.operations USING gin (instance_ids);

-- What operators changed; a null means the value of the environment.
CREATE TABLE pool.settings (
    only_row           boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version            bigint NOT NULL DEFAULT 1,
    min_idle           integer CHECK (min_idle BETWEEN 0 AND 10000),
    max_instances      integer CHECK (max_instances BETWEEN 0 AND 100000),
    create_concurrency integer CHECK (create_concurrency BETWEEN 1 AND 1000),
    paused             boolean NOT NULL DEFAULT false,
    paused_reason      text,
    desired_image      text,                            -- as the services side last reported it
    applied_min_idle   integer,                         -- the target the last tick worked for: a lowered one retires the oldest
    updated_at         timestamptz NOT NULL DEFAULT now()
);
INSERT INTO pool.settings DEFAULT VALUES;

-- Work that only one process may do at a time.
CREATE TABLE pool.leases (
    name       text PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
