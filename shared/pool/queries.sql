-- take_idle --
-- Take the next idle instance for a claim, with lease, fencing number, claim row and event, in one statement. Two callers
-- never get the same row. Current image first, then the oldest (P10); a claim's next attempt keeps its claim row, and a claim
-- that was ended meanwhile takes nothing more.
WITH taken AS (
    UPDATE pool.instances AS i
       SET status = 'claiming', status_since = now(), reason = NULL, version = i.version + 1, generation = i.generation + 1,
           claim_id = CAST(:claim_id AS uuid),
           not_after = now() + make_interval(secs => CAST(:send_seconds AS float8)),
           lease_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8))
     WHERE i.id = (SELECT c.id FROM pool.instances AS c
                    WHERE c.status = 'idle' AND NOT c.protected AND c.id <> ALL (CAST(:excluded AS text[]))
                      AND NOT EXISTS (SELECT FROM pool.claims AS former
                                       WHERE former.id = CAST(:claim_id AS uuid) AND former.status <> 'open')
                    ORDER BY c.current_image DESC, c.created_at, c.id
                    LIMIT 1 FOR UPDATE SKIP LOCKED)
 RETURNING i.id, i.generation, i.not_after, i.url
), claim AS (
    INSERT INTO pool.claims (id, status, owner_id, agent_name, instructions, join_url, model, metadata, instance_id, generation)
    SELECT CAST(:claim_id AS uuid), 'open', CAST(:owner_id AS text), CAST(:agent_name AS text), CAST(:instructions AS text),
           CAST(:join_url AS text), CAST(:model AS text), CAST(:metadata AS jsonb), taken.id, taken.generation
      FROM taken
        ON CONFLICT (id) DO UPDATE
       SET instance_id = excluded.instance_id, generation = excluded.generation, attempts = pool.claims.attempts + 1
), event AS (
    INSERT INTO pool.events (kind, instance_id, claim_id, actor)
    SELECT 'instance.taken', taken.id, CAST(:claim_id AS uuid), 'claim' FROM taken
)
SELECT id, generation, not_after, url FROM taken;

-- complete_claim --
-- Record a successful introduction, only while the instance is still being claimed under that generation (P8).
WITH done AS (
    UPDATE pool.instances AS i
       SET status = CAST(:status AS text), status_since = now(), version = i.version + 1, introduced = true,
           not_after = NULL, lease_expires_at = NULL
     WHERE i.id = CAST(:instance_id AS text) AND i.status = 'claiming' AND i.generation = CAST(:generation AS bigint)
 RETURNING i.id, i.claim_id
), claim AS (
    UPDATE pool.claims AS c
       SET status = CAST(:status AS text), conversation_id = CAST(:conversation_id AS text),
           invite_url = CAST(:invite_url AS text), joined = CAST(:joined AS boolean), finished_at = now()
      FROM done
     WHERE c.id = done.claim_id AND c.status = 'open' AND c.generation = CAST(:generation AS bigint)
), event AS (
    INSERT INTO pool.events (kind, instance_id, claim_id, actor)
    SELECT 'instance.' || CAST(:status AS text), done.id, done.claim_id, CAST(:actor AS text) FROM done
)
SELECT id FROM done;

-- set_aside --
-- End a claim's attempt at an instance without success: back to idle, or quarantined, as the settling told.
WITH done AS (
    UPDATE pool.instances AS i
       SET status = CAST(:status AS text), status_since = now(), version = i.version + 1,
           reason = CAST(:reason AS text), introduced = i.introduced OR CAST(:introduced AS boolean),
           claim_id = CASE WHEN CAST(:status AS text) = 'idle' THEN NULL ELSE i.claim_id END,
           not_after = NULL, lease_expires_at = NULL
     WHERE i.id = CAST(:instance_id AS text) AND i.status = 'claiming' AND i.generation = CAST(:generation AS bigint)
 RETURNING i.id
), event AS (
    INSERT INTO pool.events (kind, instance_id, claim_id, actor, details)
    SELECT 'instance.' || CASE WHEN CAST(:status AS text) = 'idle' THEN 'returned' ELSE CAST(:status AS text) END,
           done.id, CAST(:claim_id AS uuid), CAST(:actor AS text), jsonb_build_object('reason', CAST(:reason AS text))
      FROM done
)
SELECT id FROM done;

-- fail_claim --
-- Record that a claim got no instance. Only an open claim can fail, and only while it is still at that attempt.
UPDATE pool.claims
   SET status = 'failed', problem = CAST(:problem AS text), finished_at = now(), instructions = NULL
 WHERE id = CAST(:claim_id AS uuid) AND status = 'open' AND generation = CAST(:generation AS bigint)
   AND instance_id = CAST(:instance_id AS text)
RETURNING id;

-- fail_abandoned_claims --
-- Close the claims that are open although no instance is held for them any more, and that no living process can still be
-- working on: theirs died between two attempts, or before it could tell how the last one ended.
UPDATE pool.claims AS c
   SET status = 'failed', problem = 'its process did not finish', finished_at = now(), instructions = NULL
 WHERE c.status = 'open' AND c.created_at < now() - make_interval(secs => CAST(:seconds AS float8))
   AND NOT EXISTS (SELECT FROM pool.instances AS i WHERE i.claim_id = c.id AND i.status = 'claiming')
RETURNING c.id;

-- look_at_supply --
-- Tell why nothing could be taken: how many are idle after all (locked for a moment), and how long the last ones took to
-- become ready, against how long the one longest under way has been at it.
SELECT (SELECT count(*) FROM pool.instances WHERE status = 'idle' AND NOT protected
                                              AND id <> ALL (CAST(:excluded AS text[]))) AS idle,
       (SELECT paused FROM pool.settings) AS paused,
       (SELECT extract(epoch FROM now() - min(created_at))::float8 FROM pool.instances
         WHERE status = 'starting' AND NOT introduced) AS oldest_start_seconds,
       (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY recent.seconds)
          FROM (SELECT (details ->> 'seconds')::float8 AS seconds FROM pool.events
                 WHERE kind = 'instance.ready' ORDER BY id DESC LIMIT 20) AS recent) AS usual_start_seconds;

-- read_claim --
-- Read one claim.
SELECT id, status, owner_id, agent_name, instance_id, generation, conversation_id, invite_url, joined, attempts, problem,
       created_at, finished_at, ended_at
  FROM pool.claims
 WHERE id = CAST(:claim_id AS uuid);

-- take_lease --
-- Take work that only one process may do at a time; a lease that ran out is free for anybody.
INSERT INTO pool.leases AS l (name, holder, expires_at)
VALUES (CAST(:name AS text), CAST(:holder AS uuid), now() + make_interval(secs => CAST(:seconds AS float8)))
    ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, expires_at = excluded.expires_at
 WHERE l.expires_at < now()
RETURNING holder;

-- begin_tick --
-- Open the record of a tick, and close those whose process died.
WITH dead AS (
    UPDATE pool.ticks SET outcome = 'failed', finished_at = now(), warnings = warnings || '["it was cut off"]'::jsonb
     WHERE outcome = 'running'
)
INSERT INTO pool.ticks DEFAULT VALUES RETURNING id;

-- finish_tick --
-- Close the record of a tick and give its lease back.
WITH free AS (
    DELETE FROM pool.leases WHERE name = 'tick' AND holder = CAST(:holder AS uuid)
)
UPDATE pool.ticks
   SET outcome = CAST(:outcome AS text), finished_at = now(), seen = CAST(:seen AS jsonb), decided = CAST(:decided AS jsonb),
       done = CAST(:done AS jsonb), warnings = CAST(:warnings AS jsonb)
 WHERE id = CAST(:tick_id AS bigint) AND outcome = 'running'
RETURNING id;

-- list_ticks --
-- Read the latest ticks, newest first.
SELECT id, started_at, finished_at, outcome, seen, decided, done, warnings
  FROM pool.ticks
 ORDER BY id DESC
 LIMIT CAST(:most AS integer);

-- list_to_observe --
-- Read what an observation is compared with, for all instances or for some.
SELECT i.id, i.status, i.version, i.introduced, i.built, i.current_image, i.url, i.image, i.observed, i.deploy_status,
       i.health_reason, i.failed_checks, i.failing_since, i.created_at, i.status_since, c.conversation_id
  FROM pool.instances AS i
  LEFT JOIN pool.claims AS c ON c.id = i.claim_id
 WHERE i.built AND i.status <> 'destroying'
   AND (CAST(:instance_ids AS text[]) IS NULL OR i.id = ANY (CAST(:instance_ids AS text[])))
 ORDER BY i.id;

-- apply_observations --
-- Write what was observed and the moves that follow, each row only if it still is what was read (P1). The rows come as one
-- JSON array; a row that changed meanwhile, or that somebody is changing now, is left alone and is missing from the answer. So this
-- waits for no row, and two such statements cannot wait for each other.
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS w(id text, version bigint, before text, after text, reason text, since timestamptz, current_image boolean,
             url text, image text, observed text, deploy_status text, health_reason text, failed_checks integer,
             failing_since timestamptz)
), free AS (
    SELECT i.id FROM pool.instances AS i JOIN wanted AS w ON w.id = i.id FOR UPDATE OF i SKIP LOCKED
), done AS (
    UPDATE pool.instances AS i
       SET status = w.after, version = i.version + 1,
           status_since = CASE WHEN w.after = w.before THEN i.status_since ELSE now() END,
           reason = CASE WHEN w.after = w.before THEN i.reason ELSE w.reason END,
           current_image = w.current_image, url = coalesce(w.url, i.url), image = w.image, observed = w.observed,
           deploy_status = w.deploy_status, health_reason = w.health_reason, failed_checks = w.failed_checks,
           failing_since = w.failing_since, observed_at = now()
      FROM wanted AS w JOIN free ON free.id = w.id
     WHERE i.id = w.id AND i.version = w.version AND i.status = w.before AND i.status <> 'claiming'
 RETURNING i.id, w.before, w.after, i.reason, i.claim_id, w.since
), event AS (
    INSERT INTO pool.events (kind, instance_id, claim_id, actor, details)
    SELECT CASE WHEN d.before = 'starting' AND d.after = 'idle' THEN 'instance.ready' ELSE 'instance.' || d.after END,
           d.id, d.claim_id, CAST(:actor AS text),
           jsonb_build_object('from', d.before, 'reason', d.reason,
                              'seconds', round(extract(epoch FROM now() - d.since)::numeric, 1))
      FROM done AS d WHERE d.before <> d.after
)
SELECT id, before, after FROM done;

-- list_expired_leases --
-- Read the claims whose process did not finish in time.
SELECT id, generation, claim_id FROM pool.instances
 WHERE status = 'claiming' AND lease_expires_at < now()
 ORDER BY lease_expires_at
 LIMIT 500;

-- retire_unusable --
-- Ask for the end of everything that can never be handed out, protected ones excepted (P11). What somebody is changing now is
-- left to the next tick.
WITH picked AS (
    SELECT id FROM pool.instances WHERE status IN ('dead', 'tainted') AND NOT protected FOR UPDATE SKIP LOCKED
), done AS (
    UPDATE pool.instances AS i
       SET status = 'destroying', status_since = now(), version = i.version + 1
      FROM picked WHERE i.id = picked.id
 RETURNING i.id, i.reason
), event AS (
    INSERT INTO pool.events (kind, instance_id, actor, details)
    SELECT 'instance.destroying', done.id, CAST(:actor AS text), jsonb_build_object('reason', done.reason) FROM done
)
SELECT id FROM done;

-- retire_surplus --
-- After the target was lowered, ask for the end of the oldest available ones above it, and remember the target. The first tick
-- only remembers.
WITH facts AS (
    SELECT coalesce(s.min_idle, CAST(:min_idle AS integer)) AS target,
           coalesce(s.applied_min_idle, s.min_idle, CAST(:min_idle AS integer)) AS before
      FROM pool.settings AS s
), surplus AS (
    SELECT greatest(0, least(facts.before - facts.target,
                             (SELECT count(*) FROM pool.instances WHERE status IN ('idle', 'starting'))
                             - facts.target)) AS n
      FROM facts
), picked AS (
    SELECT i.id FROM pool.instances AS i
     WHERE i.status IN ('idle', 'starting') AND NOT i.protected
     ORDER BY i.current_image, i.created_at, i.id
     LIMIT coalesce((SELECT n FROM surplus), 0) FOR UPDATE SKIP LOCKED
), done AS (
    UPDATE pool.instances AS i
       SET status = 'destroying', status_since = now(), version = i.version + 1, reason = 'the target was lowered'
      FROM picked WHERE i.id = picked.id
 RETURNING i.id
), event AS (
    INSERT INTO pool.events (kind, instance_id, actor, details)
    SELECT 'instance.destroying', done.id, CAST(:actor AS text), jsonb_build_object('reason', 'the target was lowered') FROM done
), remembered AS (
    UPDATE pool.settings SET applied_min_idle = facts.target
      FROM facts WHERE applied_min_idle IS DISTINCT FROM facts.target
)
SELECT id FROM done;

-- lock_settings --
-- Read the live settings and keep everybody else who wants to create waiting until the transaction ends (P19).
SELECT version, min_idle, max_instances, create_concurrency, paused, paused_reason, desired_image
  FROM pool.settings FOR UPDATE;

-- read_settings --
-- Read the live settings.
SELECT version, min_idle, max_instances, create_concurrency, paused, paused_reason, desired_image FROM pool.settings;

-- begin_creations --
-- Record the intent to build new instances, as many as target, cap and concurrency allow at this moment; needs the lock on
-- the settings row. Sleeping instances count as available, since they are woken before new ones are built.
WITH room AS (
    SELECT least(CAST(:target AS integer) - count(*) FILTER (WHERE status IN ('idle', 'starting', 'sleeping')),
                 CAST(:max_instances AS integer) - count(*),
                 CAST(:create_concurrency AS integer) - count(*) FILTER (WHERE status = 'starting' AND NOT built),
                 CAST(:most AS integer)) AS n
      FROM pool.instances
), done AS (
    INSERT INTO pool.instances (id, status)
    SELECT candidate.id, 'starting'
      FROM unnest(CAST(:candidates AS text[])) WITH ORDINALITY AS candidate (id, place), room
     WHERE candidate.place <= room.n
 RETURNING id
), event AS (
    INSERT INTO pool.events (kind, instance_id, actor) SELECT 'instance.intended', done.id, CAST(:actor AS text) FROM done
)
SELECT id FROM done;

-- list_unfinished --
-- Read what is still being built or taken down, the one that waited longest first (P36).
SELECT id, status, built, created_at FROM pool.instances
 WHERE (status = 'destroying' OR NOT built)
   AND (CAST(:instance_ids AS text[]) IS NULL OR id = ANY (CAST(:instance_ids AS text[])))
 ORDER BY worked_at NULLS FIRST, created_at
 LIMIT 1000;

-- mark_worked --
-- Remember on which instances this tick worked, so that the next one begins with the others.
UPDATE pool.instances SET worked_at = now()
 WHERE id IN (SELECT id FROM pool.instances WHERE id = ANY (CAST(:instance_ids AS text[])) FOR UPDATE SKIP LOCKED);

-- record_built --
-- Record that the services side finished a creation.
UPDATE pool.instances
   SET built = true, url = CAST(:url AS text), reason = NULL, version = version + 1
 WHERE id = CAST(:instance_id AS text) AND NOT built
RETURNING id;

-- record_problem --
-- Keep the words of what holds up a creation or a destruction.
UPDATE pool.instances SET reason = CAST(:reason AS text), version = version + 1
 WHERE id = CAST(:instance_id AS text) AND status = CAST(:status AS text) AND reason IS DISTINCT FROM CAST(:reason AS text)
RETURNING id;

-- record_buried --
-- A creation met a tombstone: the instance can never be built.
UPDATE pool.instances
   SET status = 'destroying', status_since = now(), version = version + 1, reason = 'it was destroyed while being built'
 WHERE id = CAST(:instance_id AS text) AND status = 'starting'
RETURNING id;

-- forget_destroyed --
-- Drop the row of an instance whose end every vendor confirmed (P25), and end the claim that had it.
WITH done AS (
    DELETE FROM pool.instances WHERE id = CAST(:instance_id AS text) AND status = 'destroying'
 RETURNING id, claim_id
), claim AS (
    UPDATE pool.claims AS c
       SET status = 'ended', ended_at = now(), finished_at = coalesce(c.finished_at, now()), instructions = NULL
      FROM done WHERE c.id = done.claim_id AND c.instance_id = done.id AND c.status IN ('open', 'claimed', 'pending_acceptance')
), event AS (
    INSERT INTO pool.events (kind, instance_id, claim_id, actor)
    SELECT 'instance.destroyed', done.id, done.claim_id, CAST(:actor AS text) FROM done
)
SELECT id FROM done;

-- note_desired_image --
-- Remember the desired image as the services side reports it.
UPDATE pool.settings SET desired_image = CAST(:image AS text)
 WHERE desired_image IS DISTINCT FROM CAST(:image AS text);

-- count_by_status --
-- Count instances per status, and tell for how long the longest has been in it.
SELECT status, count(*) AS n, extract(epoch FROM now() - min(status_since))::float8 AS longest_seconds
  FROM pool.instances GROUP BY status;

-- list_agents --
-- Read a page of instances with the claim that holds each.
SELECT i.id, i.status, i.status_since, i.reason, i.version, i.protected, i.introduced, i.current_image, i.image, i.url,
       i.observed, i.deploy_status, i.health_reason, i.failed_checks, i.failing_since, i.created_at, i.claim_id,
       c.agent_name, c.owner_id, c.conversation_id, c.invite_url
  FROM pool.instances AS i
  LEFT JOIN pool.claims AS c ON c.id = i.claim_id AND c.instance_id = i.id AND i.status <> 'destroying'
 WHERE (CAST(:statuses AS text[]) IS NULL OR i.status = ANY (CAST(:statuses AS text[])))
   AND (CAST(:instance_id AS text) IS NULL OR i.id = CAST(:instance_id AS text))
   AND (CAST(:after_id AS text) IS NULL
        OR (i.created_at, i.id) > (CAST(:after_created AS timestamptz), CAST(:after_id AS text)))
 ORDER BY i.created_at, i.id
 LIMIT CAST(:most AS integer);

-- list_events --
-- Read a page of events, newest first.
SELECT id, at, kind, instance_id, claim_id, actor, details
  FROM pool.events
 WHERE (CAST(:instance_id AS text) IS NULL OR instance_id = CAST(:instance_id AS text))
   AND (CAST(:before AS bigint) IS NULL OR id < CAST(:before AS bigint))
 ORDER BY id DESC
 LIMIT CAST(:most AS integer);

-- begin_kill --
-- Take one instance for destruction, whatever its status, unless it is protected or already being destroyed. The claim that
-- holds it ends; one that was set aside keeps the id of a claim that may have gone on to another instance.
WITH done AS (
    UPDATE pool.instances AS i
       SET status = 'destroying', status_since = now(), version = i.version + 1, reason = CAST(:reason AS text),
           not_after = NULL, lease_expires_at = NULL
     WHERE i.id = CAST(:instance_id AS text) AND i.status <> 'destroying' AND NOT i.protected
       AND (CAST(:only_status AS text) IS NULL OR i.status = CAST(:only_status AS text))
 RETURNING i.id, i.claim_id
), operation AS (
    INSERT INTO pool.operations (id, kind, instance_ids)
    SELECT CAST(:operation_id AS uuid), 'kill', ARRAY[done.id] FROM done
), claim AS (
    UPDATE pool.claims AS c
       SET status = 'ended', ended_at = now(), finished_at = coalesce(c.finished_at, now()), instructions = NULL
      FROM done WHERE c.id = done.claim_id AND c.instance_id = done.id AND c.status IN ('open', 'claimed', 'pending_acceptance')
), event AS (
    INSERT INTO pool.events (kind, instance_id, claim_id, actor, details)
    SELECT 'instance.destroying', done.id, done.claim_id, 'operator', jsonb_build_object('reason', CAST(:reason AS text))
      FROM done
)
SELECT id FROM done;

-- begin_drain --
-- Take unclaimed instances for destruction, each only if it is still unclaimed at this moment (P28), the oldest first.
WITH picked AS (
    SELECT id FROM pool.instances
     WHERE status = ANY (CAST(:statuses AS text[])) AND NOT protected
     ORDER BY created_at, id
     LIMIT CAST(:most AS integer) FOR UPDATE
), done AS (
    UPDATE pool.instances AS i
       SET status = 'destroying', status_since = now(), version = i.version + 1, reason = 'drained'
      FROM picked WHERE i.id = picked.id
 RETURNING i.id
), operation AS (
    INSERT INTO pool.operations (id, kind, instance_ids)
    SELECT CAST(:operation_id AS uuid), 'drain', coalesce(array_agg(done.id), '{}') FROM done
), event AS (
    INSERT INTO pool.events (kind, instance_id, actor, details)
    SELECT 'instance.destroying', done.id, 'operator', jsonb_build_object('reason', 'drained') FROM done
)
SELECT id FROM done;

-- begin_operation --
-- Record work on given instances.
INSERT INTO pool.operations (id, kind, instance_ids)
VALUES (CAST(:operation_id AS uuid), CAST(:kind AS text), CAST(:instance_ids AS text[]));

-- begin_redeployment --
-- Record a redeployment, and hand the instance out to nobody until it is ready again; only while it is what was read.
WITH moved AS (
    UPDATE pool.instances AS i
       SET status = CASE WHEN i.status = 'idle' THEN 'starting' ELSE i.status END,
           status_since = CASE WHEN i.status = 'idle' THEN now() ELSE i.status_since END,
           reason = CASE WHEN i.status = 'idle' THEN 'it is being redeployed' ELSE i.reason END, version = i.version + 1
     WHERE i.id = CAST(:instance_id AS text) AND i.version = CAST(:version AS bigint) AND NOT i.protected
       AND i.status NOT IN ('claiming', 'destroying')
 RETURNING i.id
), operation AS (
    INSERT INTO pool.operations (id, kind, instance_ids, image)
    SELECT CAST(:operation_id AS uuid), 'redeploy', ARRAY[moved.id], CAST(:image AS text) FROM moved
), event AS (
    INSERT INTO pool.events (kind, instance_id, actor) SELECT 'instance.redeploying', moved.id, 'operator' FROM moved
)
SELECT id FROM moved;

-- read_operation --
-- Read one operation, and on how many of its instances work remains: for a kill or a drain those that still have a row, for a
-- replenish those that are still starting.
SELECT o.id, o.kind, o.status, o.instance_ids, o.image, o.problem, o.created_at, o.finished_at,
       (SELECT count(*) FROM pool.instances AS i WHERE i.id = ANY (o.instance_ids)
           AND (o.kind IN ('kill', 'drain') OR (o.kind = 'replenish' AND i.status = 'starting')
                OR (o.kind = 'redeploy' AND o.status = 'running'))) AS remaining
  FROM pool.operations AS o
 WHERE o.id = CAST(:operation_id AS uuid);

-- find_kill --
-- Find the latest operation that destroys or destroyed this instance, so that a repeated kill joins it (P30).
SELECT o.id FROM pool.operations AS o
 WHERE o.kind IN ('kill', 'drain') AND o.instance_ids @> ARRAY[CAST(:instance_id AS text)]
 ORDER BY o.created_at DESC
 LIMIT 1;

-- was_destroyed --
-- Whether an instance of this id once lived and its end was confirmed.
SELECT 1 AS yes FROM pool.events
 WHERE instance_id = CAST(:instance_id AS text) AND kind = 'instance.destroyed'
 LIMIT 1;

-- list_running_operations --
-- Read the operations that are not finished, of one kind or of all, the oldest first.
SELECT o.id, o.kind, o.status, o.instance_ids, o.image, o.problem, o.created_at, o.finished_at,
       extract(epoch FROM now() - o.created_at)::float8 AS age_seconds,
       (SELECT count(*) FROM pool.instances AS i WHERE i.id = ANY (o.instance_ids)
           AND (o.kind <> 'replenish' OR i.status = 'starting')) AS remaining
  FROM pool.operations AS o
 WHERE o.status = 'running' AND (CAST(:kind AS text) IS NULL OR o.kind = CAST(:kind AS text))
 ORDER BY o.created_at
 LIMIT CAST(:most AS integer);

-- finish_operations --
-- Close every operation on whose instances no work remains.
UPDATE pool.operations AS o
   SET status = 'done', finished_at = now()
 WHERE o.status = 'running' AND o.kind <> 'redeploy'
   AND NOT EXISTS (SELECT 1 FROM pool.instances AS i WHERE i.id = ANY (o.instance_ids)
                      AND (o.kind IN ('kill', 'drain') OR i.status = 'starting'))
RETURNING o.id;

-- finish_operation --
-- Close one operation.
UPDATE pool.operations SET status = CAST(:status AS text), problem = CAST(:problem AS text), finished_at = now()
 WHERE id = CAST(:operation_id AS uuid) AND status = 'running'
RETURNING id;

-- set_protected --
-- Protect an instance, or end its protection; one that is so already, or is being destroyed, is left alone.
WITH done AS (
    UPDATE pool.instances SET protected = CAST(:protected AS boolean), version = version + 1
     WHERE id = CAST(:instance_id AS text) AND protected <> CAST(:protected AS boolean) AND status <> 'destroying'
 RETURNING id
), event AS (
    INSERT INTO pool.events (kind, instance_id, actor)
    SELECT CASE WHEN CAST(:protected AS boolean) THEN 'instance.protected' ELSE 'instance.unprotected' END, done.id, 'operator'
      FROM done
)
SELECT id FROM done;

-- set_paused --
-- Stop creating, or go on.
WITH done AS (
    UPDATE pool.settings
       SET paused = CAST(:paused AS boolean), paused_reason = CAST(:reason AS text), version = version + 1, updated_at = now()
 RETURNING version
), event AS (
    INSERT INTO pool.events (kind, actor, details)
    SELECT CASE WHEN CAST(:paused AS boolean) THEN 'pool.paused' ELSE 'pool.resumed' END, 'operator',
           jsonb_build_object('reason', CAST(:reason AS text)) FROM done
)
SELECT version FROM done;

-- put_settings --
-- Change live settings if they still are the version that the change was made for.
WITH done AS (
    UPDATE pool.settings
       SET min_idle = CASE WHEN CAST(:set_min_idle AS boolean) THEN CAST(:min_idle AS integer) ELSE min_idle END,
           max_instances = CASE WHEN CAST(:set_max_instances AS boolean) THEN CAST(:max_instances AS integer) ELSE max_instances END,
           create_concurrency = CASE WHEN CAST(:set_create_concurrency AS boolean) THEN CAST(:create_concurrency AS integer)
                                     ELSE create_concurrency END,
           version = version + 1, updated_at = now()
     WHERE CAST(:version AS bigint) IS NULL OR version = CAST(:version AS bigint)
 RETURNING version
), event AS (
    INSERT INTO pool.events (kind, actor, details)
    SELECT 'settings.changed', 'operator', CAST(:details AS jsonb) FROM done
)
SELECT version FROM done;

-- record_sweep --
-- Keep what a sweep found.
INSERT INTO pool.sweeps (result) VALUES (CAST(:result AS jsonb));

-- list_sweeps --
-- Read what the latest sweeps found, newest first.
SELECT id, at, result FROM pool.sweeps ORDER BY id DESC LIMIT CAST(:most AS integer);

-- forget_old --
-- Keep growth bounded: old ticks and events go, in small batches.
WITH old_ticks AS (
    DELETE FROM pool.ticks WHERE id IN (SELECT id FROM pool.ticks WHERE started_at < now() - interval '30 days'
                                         ORDER BY started_at LIMIT 500)
), old_sweeps AS (
    DELETE FROM pool.sweeps WHERE id IN (SELECT id FROM pool.sweeps WHERE at < now() - interval '30 days' ORDER BY at LIMIT 500)
), old_operations AS (
    DELETE FROM pool.operations WHERE id IN (SELECT id FROM pool.operations WHERE finished_at < now() - interval '30 days'
                                              LIMIT 500)
)
DELETE FROM pool.events WHERE id IN (SELECT id FROM pool.events WHERE at < now() - interval '180 days' ORDER BY at LIMIT 500);

-- ping --
-- Ask whether the database answers.
SELECT 1 AS one;
