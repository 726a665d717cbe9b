-- read --
-- Read one instance, whatever its state, and in how many seconds somebody may work on it.
SELECT id, name, state, tools, step, step_begun, problem, failures, topology, project_id, environment_id, service_id,
       volume_id, domain, launched_image, gateway_token, setup_password, services_token,
       greatest(extract(epoch FROM worker_expires_at - now()), extract(epoch FROM next_try_at - now()), 0)::float8 AS wait_seconds,
       worker_expires_at > now() AS busy
  FROM services.instances
 WHERE id = CAST(:instance_id AS text);

-- insert --
-- Write down that an instance is to be built, with its name and its own secrets, and begin to work on it. No row: it exists, or
-- another one has its name.
INSERT INTO services.instances (id, name, title, state, tools, step, topology, project_id, environment_id,
                                gateway_token, gateway_token_hash, setup_password, services_token, services_token_hash,
                                worker, worker_expires_at)
VALUES (CAST(:instance_id AS text), CAST(:name AS text), CAST(:title AS text), 'creating', CAST(:tools AS text[]),
        CAST(:step AS text), CAST(:topology AS text), CAST(:project_id AS text), CAST(:environment_id AS text),
        CAST(:gateway_token AS text), CAST(:gateway_token_hash AS bytea), CAST(:setup_password AS text),
        CAST(:services_token AS text), CAST(:services_token_hash AS bytea),
        CAST(:worker AS uuid), now() + make_interval(secs => CAST(:lease_seconds AS float8)))
    ON CONFLICT DO NOTHING
RETURNING id;

-- take_worker --
-- Become the one worker of an instance in this state, unless somebody else is or it must rest until later.
UPDATE services.instances
   SET worker = CAST(:worker AS uuid),
       worker_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8))
 WHERE id = CAST(:instance_id AS text) AND state = CAST(:state AS text)
   AND (worker IS NULL OR worker_expires_at <= now())
   AND (next_try_at IS NULL OR next_try_at <= now())
RETURNING id;

-- begin_step --
-- Note that a step of a creation is about to be done, and keep the lease. No row: it is being destroyed, or is somebody else's.
UPDATE services.instances
   SET step_begun = true, worker_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8))
 WHERE id = CAST(:instance_id AS text) AND worker = CAST(:worker AS uuid) AND state = 'creating' AND step = CAST(:step AS text)
RETURNING id;

-- finish_step --
-- Note what a step led to. Where something was placed is written in any state, so that destroying finds it; a tombstone that
-- believed itself finished is opened again. The next step is due only if the instance is still being created, by us.
UPDATE services.instances
   SET topology = coalesce(topology, CAST(:topology AS text)),
       project_id = coalesce(project_id, CAST(:project_id AS text)),
       environment_id = coalesce(environment_id, CAST(:environment_id AS text)),
       service_id = coalesce(service_id, CAST(:service_id AS text)),
       volume_id = coalesce(volume_id, CAST(:volume_id AS text)),
       domain = coalesce(domain, CAST(:domain AS text)),
       state = CASE WHEN state = 'destroyed' AND CAST(:placed AS boolean) THEN 'destroying' ELSE state END,
       destroyed_at = CASE WHEN state = 'destroyed' AND CAST(:placed AS boolean) THEN NULL ELSE destroyed_at END,
       step = CASE WHEN state = 'creating' AND worker = CAST(:worker AS uuid) THEN CAST(:next_step AS text) ELSE step END,
       step_begun = step_begun AND NOT (state = 'creating' AND worker = CAST(:worker AS uuid)),
       problem = CASE WHEN worker = CAST(:worker AS uuid) THEN NULL ELSE problem END,
       failures = CASE WHEN worker = CAST(:worker AS uuid) THEN 0 ELSE failures END
 WHERE id = CAST(:instance_id AS text)
RETURNING state, coalesce(worker = CAST(:worker AS uuid), false) AS ours;

-- finish_creation --
-- Note that the one deployment was committed: the instance is created, and its worker is done.
UPDATE services.instances
   SET state = 'created', built_at = now(), launched_image = CAST(:image AS text), step = NULL, step_begun = false,
       problem = NULL, failures = 0, next_try_at = NULL, worker = NULL, worker_expires_at = NULL
 WHERE id = CAST(:instance_id AS text) AND worker = CAST(:worker AS uuid) AND state = 'creating'
RETURNING id;

-- give_back --
-- Stop working for now, without a failure.
UPDATE services.instances
   SET worker = NULL, worker_expires_at = NULL
 WHERE id = CAST(:instance_id AS text) AND worker = CAST(:worker AS uuid);

-- record_failure --
-- Note why the work stopped, and stop. It rests for a while, unless its state changed meanwhile: then other work is due.
UPDATE services.instances
   SET problem = CAST(:problem AS text), failures = failures + 1,
       next_try_at = CASE WHEN state = CAST(:state AS text)
                          THEN now() + make_interval(secs => CAST(:pause_seconds AS float8)) END,
       worker = NULL, worker_expires_at = NULL
 WHERE id = CAST(:instance_id AS text) AND worker = CAST(:worker AS uuid)
RETURNING state;

-- bury --
-- Write a tombstone: from now on nothing is built or bought for this id, known or not. Its first one keeps its time.
INSERT INTO services.instances AS i (id, name, state, step, destroy_asked_at)
VALUES (CAST(:instance_id AS text), CAST(:name AS text), 'destroying', CAST(:step AS text), now())
    ON CONFLICT (id) DO UPDATE
   SET state = 'destroying', destroy_asked_at = now(), step = excluded.step, step_begun = false,
       problem = NULL, failures = 0, next_try_at = NULL
 WHERE i.state IN ('creating', 'created')
RETURNING id;

-- begin_destroying --
-- Note which part is taken down now, and keep the lease. No row: it is somebody else's.
UPDATE services.instances
   SET step = CAST(:step AS text), worker_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8))
 WHERE id = CAST(:instance_id AS text) AND worker = CAST(:worker AS uuid) AND state = 'destroying'
RETURNING id;

-- finish_destruction --
-- Note that everything is gone, and forget the secrets. No row: something was bought or placed meanwhile, or it is not ours.
UPDATE services.instances AS i
   SET state = 'destroyed', destroyed_at = now(), step = NULL, problem = NULL, failures = 0, next_try_at = NULL,
       gateway_token = NULL, gateway_token_hash = NULL, setup_password = NULL, services_token = NULL,
       services_token_hash = NULL, worker = NULL, worker_expires_at = NULL
 WHERE i.id = CAST(:instance_id AS text) AND i.worker = CAST(:worker AS uuid) AND i.state = 'destroying'
   AND i.project_id IS NOT DISTINCT FROM CAST(:project_id AS text)
   AND i.service_id IS NOT DISTINCT FROM CAST(:service_id AS text)
   AND i.volume_id IS NOT DISTINCT FROM CAST(:volume_id AS text)
   AND NOT EXISTS (SELECT FROM services.instance_services AS l
                    WHERE l.instance_id = i.id AND l.status IN ('intended', 'active', 'releasing'))
RETURNING id;

-- list_abandoned --
-- Read instances whose end was asked for some time ago and on which nobody works although somebody may.
SELECT id FROM services.instances
 WHERE state = 'destroying' AND (worker IS NULL OR worker_expires_at <= now()) AND (next_try_at IS NULL OR next_try_at <= now())
   AND destroy_asked_at < now() - make_interval(secs => CAST(:age_seconds AS float8))
 ORDER BY destroy_asked_at
 LIMIT CAST(:count AS integer);

-- forget_buried --
-- Delete tombstones that have stood long enough, with what the ledger remembers of them, a few at a time.
WITH old AS (
    SELECT i.id FROM services.instances AS i
     WHERE i.state = 'destroyed' AND i.destroyed_at < now() - make_interval(days => CAST(:days AS integer))
     ORDER BY i.destroyed_at LIMIT CAST(:count AS integer) FOR UPDATE SKIP LOCKED
), remembered AS (
    DELETE FROM services.instance_services AS l USING old WHERE l.instance_id = old.id AND l.status = 'released'
)
DELETE FROM services.instances AS i USING old WHERE i.id = old.id
RETURNING i.id;

-- read_services_token --
-- Read what an instance's own services token is recognised by; only a living instance has one.
SELECT services_token_hash FROM services.instances
 WHERE id = CAST(:instance_id AS text) AND state IN ('creating', 'created') AND services_token_hash IS NOT NULL;
