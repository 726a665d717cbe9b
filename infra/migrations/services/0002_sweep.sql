-- What the sweep found: resources that a vendor holds and our tables do not know, and the reverse (P17, P26).

-- One row is one difference, from the sweep that saw it first until one that no longer does, or until it was acted upon.
CREATE TABLE services.findings (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind              text NOT NULL CHECK (kind IN ('orphan', 'missing')),
    vendor            text NOT NULL,                    -- a tool, or `hosting`
    resource          text NOT NULL,                    -- the vendor's id of it
    name              text NOT NULL,
    instance_id       text,                             -- whose it is by our tables; they do not know an orphan
    vendor_created_at timestamptz,                      -- where the vendor tells it
    first_seen_at     timestamptz NOT NULL,
    last_seen_at      timestamptz NOT NULL,
    times_seen        integer NOT NULL DEFAULT 1 CHECK (times_seen > 0),
    acted_at          timestamptz,                      -- when its end was begun for the first time
    reason            text,                             -- why the last attempt to end it failed
    resolved_at       timestamptz,
    CONSTRAINT seen_in_order CHECK (last_seen_at >= first_seen_at),
    CONSTRAINT missing_has_an_owner CHECK ((kind = 'missing') = (instance_id IS NOT NULL)),
    CONSTRAINT only_orphans_are_ended CHECK (kind = 'orphan' OR acted_at IS NULL)
);
CREATE UNIQUE INDEX findings_open ON services.findings (kind, vendor, resource, name) WHERE resolved_at IS NULL;
CREATE INDEX findings_resolved ON services.findings (resolved_at) WHERE resolved_at IS NOT NULL;
