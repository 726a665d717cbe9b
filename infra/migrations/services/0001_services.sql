-- The services side: how an instance is built, what was bought for it, how it was introduced and how it is doing.

CREATE TABLE services.instances (
    id                 text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    name               text NOT NULL UNIQUE,            -- its name at every vendor (shared/services/names.py)
    title              text,
    state              text NOT NULL CHECK (state IN ('creating', 'created', 'destroying', 'destroyed')),
    tools              text[] NOT NULL DEFAULT '{}',

    -- Work in progress: one worker per instance; the step to do, and whether it was begun without a known end.
    step               text,
    step_begun         boolean NOT NULL DEFAULT false,
    problem            text,
    failures           integer NOT NULL DEFAULT 0,
    next_try_at        timestamptz,
    worker             uuid,
    worker_expires_at  timestamptz,

    -- Where it lives at the host.
    topology           text,
    project_id         text,
    environment_id     text,
    service_id         text,
    volume_id          text,
    domain             text,
    launched_image     text,                            -- the image of its last deployment of ours

    -- Its own secrets, sealed (shared/services/sealing.py), and what a token is looked up by.
    gateway_token      text,
    setup_password     text,
    services_token     text,
    gateway_token_hash bytea,
    services_token_hash bytea,

    -- What the host last said.
    deployment_id      text,
    deploy_status      text,
    image              text,
    seen_at            timestamptz,                     -- when the listing or reading began that saw it last
    missing_since      timestamptz,                     -- when the first complete listing without it began
    gone               boolean NOT NULL DEFAULT false,

    -- How its runtime is doing; the failure counters live here and nowhere else.
    health             text CHECK (health IN ('ready', 'not_ready', 'unreachable')),
    health_reason      text,
    failed_checks      integer NOT NULL DEFAULT 0 CHECK (failed_checks >= 0),
    failing_since      timestamptz,
    checked_at         timestamptz,
    conversation_id    text,
    clean              boolean,
    conversation_read_at timestamptz,                   -- when the runtime told these two; NULL: it must be asked again

    -- The fence of hand-overs, on the row itself so that one row lock decides between sending, closing and resetting.
    sent_generation    bigint NOT NULL DEFAULT 0,       -- the newest generation that was, or may have been, sent
    closed_generation  bigint NOT NULL DEFAULT 0,       -- generations up to this one can send no more
    created_at         timestamptz NOT NULL DEFAULT now(),
    built_at           timestamptz,
    destroy_asked_at   timestamptz,
    destroyed_at       timestamptz,
    CONSTRAINT worker_has_a_deadline CHECK ((worker IS NULL) = (worker_expires_at IS NULL)),
    CONSTRAINT built_is_placed CHECK (state <> 'created' OR (built_at IS NOT NULL AND service_id IS NOT NULL AND domain IS NOT NULL)),
    CONSTRAINT tombstone_has_a_time CHECK ((state IN ('destroying', 'destroyed')) = (destroy_asked_at IS NOT NULL)),
    CONSTRAINT destroyed_has_a_time CHECK ((state = 'destroyed') = (destroyed_at IS NOT NULL)),
    CONSTRAINT destroyed_keeps_no_secret CHECK (
        state <> 'destroyed' OR coalesce(gateway_token, setup_password, services_token) IS NULL),
    CONSTRAINT failing_has_a_start CHECK ((failed_checks = 0) = (failing_since IS NULL)),
    CONSTRAINT verdict_has_a_time CHECK ((health IS NULL) = (checked_at IS NULL)),
    CONSTRAINT conversation_was_read CHECK (conversation_read_at IS NOT NULL OR (conversation_id IS NULL AND clean IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX instances_living ON services.instances (id) WHERE state <> 'destroyed';
CREATE INDEX instances_by_service ON services.instances (service_id) WHERE service_id IS NOT NULL;
CREATE INDEX instances_by_gateway_token ON services.instances (gateway_token_hash);
CREATE INDEX instances_buried ON services.instances (destroyed_at) WHERE state = 'destroyed';

-- The ledger: every resource that was bought, or may have been. A row is written before the purchase and forgotten only
-- after its vendor confirmed the end. `cooling` is our own stock of released resources, of no instance (P31).
CREATE TABLE services.instance_services (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance_id      text,
    tool             text NOT NULL,
    status           text NOT NULL CHECK (status IN ('intended', 'active', 'releasing', 'cooling', 'released')),
    name             text NOT NULL,                     -- the name under which it is, or may be, held by the vendor
    attempt          integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
    resource_id      text,
    variables        text,                              -- what it grants, sealed
    reason           text,
    failures         integer NOT NULL DEFAULT 0,
    next_try_at      timestamptz,
    available_at     timestamptz,                       -- when a cooling resource may be handed out again
    worker           uuid,
    worker_expires_at timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT worker_has_a_deadline CHECK ((worker IS NULL) = (worker_expires_at IS NULL)),
    CONSTRAINT bought_has_an_id CHECK (resource_id IS NOT NULL OR status NOT IN ('active', 'cooling')),
    CONSTRAINT cooling_is_free CHECK ((status = 'cooling') = (available_at IS NOT NULL)),
    CONSTRAINT of_an_instance CHECK (instance_id IS NOT NULL OR status IN ('cooling', 'releasing', 'released')),
    CONSTRAINT secrets_of_the_living CHECK (variables IS NULL OR status IN ('active', 'releasing'))
);
CREATE UNIQUE INDEX ledger_one_per_tool ON services.instance_services (instance_id, tool)
    WHERE status IN ('intended', 'active', 'releasing');
CREATE UNIQUE INDEX ledger_one_owner ON services.instance_services (tool, resource_id)
    WHERE status IN ('intended', 'active', 'releasing', 'cooling');
CREATE INDEX ledger_by_instance ON services.instance_services (instance_id);
CREATE INDEX ledger_stock ON services.instance_services (tool, available_at) WHERE status = 'cooling';

-- Hand-overs: one row is one introduction that was, or may have been, sent.
CREATE TABLE services.hand_overs (
    instance_id text NOT NULL REFERENCES services.instances (id) ON DELETE CASCADE,
    generation  bigint NOT NULL,
    claim_id    text NOT NULL,
    joining     boolean NOT NULL,                       -- an invite was given, rather than a conversation created
    sent_at     timestamptz NOT NULL DEFAULT now(),
    refused     boolean NOT NULL DEFAULT false,         -- it was bound already: its conversation is not of this claim
    answer      jsonb,
    answered_at timestamptz,
    PRIMARY KEY (instance_id, generation),
    CONSTRAINT answer_has_a_time CHECK ((answer IS NULL) = (answered_at IS NULL))
);

-- One row is one listing of everything that the host runs for us, over all its pages.
CREATE TABLE services.listings (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_at   timestamptz NOT NULL DEFAULT now(),
    ended_at   timestamptz,
    complete   boolean NOT NULL DEFAULT false,
    pages      integer NOT NULL DEFAULT 0,
    seen       integer NOT NULL DEFAULT 0,
    CONSTRAINT complete_has_ended CHECK (NOT complete OR ended_at IS NOT NULL)
);

-- What there is one of: the desired image, and the host's allowance as its last answer told it.
CREATE TABLE services.facts (
    only_row         boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    image            text,
    digest           text,
    candidate_digest text,                              -- seen once; it counts when seen again
    image_checked_at timestamptz,
    hourly_limit     integer,
    remaining        integer
);
INSERT INTO services.facts DEFAULT VALUES;

-- Work that only one process may do at a time.
CREATE TABLE services.leases (
    name       text PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
