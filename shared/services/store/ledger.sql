-- find_latest --
-- Read the newest line of an instance's tool, and whether the instance may still be given anything. There is always one row.
SELECT coalesce((SELECT i.state IN ('creating', 'created') FROM services.instances AS i WHERE i.id = wanted.instance_id), false) AS alive,
       EXISTS (SELECT FROM services.instances AS i WHERE i.id = wanted.instance_id) AS known,
       l.id, l.instance_id, l.tool, l.status, l.name, l.attempt, l.resource_id, l.reason, l.failures, l.updated_at,
       coalesce((SELECT max(h.attempt) FROM services.instance_services AS h
                  WHERE h.instance_id = wanted.instance_id AND h.tool = wanted.tool), 0) AS last_attempt
  FROM (SELECT CAST(:instance_id AS text) AS instance_id, CAST(:tool AS text) AS tool) AS wanted
  LEFT JOIN LATERAL (SELECT * FROM services.instance_services AS s
                      WHERE s.instance_id = wanted.instance_id AND s.tool = wanted.tool
                      ORDER BY s.id DESC LIMIT 1) AS l ON true;

-- intend --
-- Write down that a resource is about to be bought, and begin. No row: the instance is being destroyed, or somebody intends it.
WITH living AS (
    SELECT id FROM services.instances
     WHERE id = CAST(:instance_id AS text) AND state IN ('creating', 'created') FOR SHARE
)
INSERT INTO services.instance_services (instance_id, tool, status, name, attempt, worker, worker_expires_at)
SELECT living.id, CAST(:tool AS text), 'intended', CAST(:name AS text), CAST(:attempt AS integer), CAST(:worker AS uuid),
       now() + make_interval(secs => CAST(:lease_seconds AS float8))
  FROM living
    ON CONFLICT (instance_id, tool) WHERE status IN ('intended', 'active', 'releasing') DO NOTHING
RETURNING id, instance_id, tool, status, name, attempt, resource_id, reason, failures, updated_at;

-- take_from_stock --
-- Intend to hand out the resource of our own stock that has rested longest, and begin. No row: there is none, or no such instance.
WITH living AS (
    SELECT id FROM services.instances
     WHERE id = CAST(:instance_id AS text) AND state IN ('creating', 'created') FOR SHARE
), rested AS (
    SELECT s.id FROM services.instance_services AS s, living
     WHERE s.tool = CAST(:tool AS text) AND s.status = 'cooling' AND s.available_at <= now()
     ORDER BY s.available_at LIMIT 1 FOR UPDATE OF s SKIP LOCKED
)
UPDATE services.instance_services AS l
   SET status = 'intended', instance_id = living.id, name = CAST(:name AS text), attempt = CAST(:attempt AS integer),
       available_at = NULL, failures = 0, reason = NULL, next_try_at = NULL, updated_at = now(),
       worker = CAST(:worker AS uuid), worker_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8))
  FROM rested, living
 WHERE l.id = rested.id
RETURNING l.id, l.instance_id, l.tool, l.status, l.name, l.attempt, l.resource_id, l.reason, l.failures, l.updated_at;

-- resume --
-- Go on with a purchase whose end is not known. No row: somebody is at it, it has ended, or the instance is being destroyed.
UPDATE services.instance_services AS l
   SET worker = CAST(:worker AS uuid), worker_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8)),
       updated_at = now()
  FROM services.instances AS i
 WHERE l.id = CAST(:id AS bigint) AND l.status = 'intended' AND (l.worker IS NULL OR l.worker_expires_at <= now())
   AND i.id = l.instance_id AND i.state IN ('creating', 'created')
RETURNING l.id, l.instance_id, l.tool, l.status, l.name, l.attempt, l.resource_id, l.reason, l.failures, l.updated_at;

-- next_attempt --
-- Go on under the name of the next attempt, because the vendor gives the last name once only.
UPDATE services.instance_services
   SET attempt = CAST(:attempt AS integer), name = CAST(:name AS text), updated_at = now()
 WHERE id = CAST(:id AS bigint) AND worker = CAST(:worker AS uuid) AND status = 'intended'
RETURNING id, instance_id, tool, status, name, attempt, resource_id, reason, failures, updated_at;

-- forget_resource --
-- Forget which resource of our stock was to be handed out, because its vendor no longer has it.
UPDATE services.instance_services
   SET resource_id = NULL, updated_at = now()
 WHERE id = CAST(:id AS bigint) AND worker = CAST(:worker AS uuid) AND status = 'intended'
RETURNING id, instance_id, tool, status, name, attempt, resource_id, reason, failures, updated_at;

-- is_known --
-- Tell whether a living line holds a resource, or whether the line it was bought for has not ended: who is at it may find it.
SELECT EXISTS (SELECT FROM services.instance_services
                WHERE (tool = CAST(:tool AS text) AND resource_id = CAST(:resource_id AS text)
                       AND status IN ('intended', 'active', 'releasing', 'cooling'))
                   OR (id = CAST(:id AS bigint) AND status IN ('intended', 'releasing'))) AS known;

-- activate --
-- Note what was bought, with what it grants, and tell the state of the instance. No row: the purchase is no longer ours.
UPDATE services.instance_services AS l
   SET status = 'active', resource_id = CAST(:resource_id AS text), variables = CAST(:variables AS text), reason = NULL,
       failures = 0, next_try_at = NULL, worker = NULL, worker_expires_at = NULL, updated_at = now()
 WHERE l.id = CAST(:id AS bigint) AND l.worker = CAST(:worker AS uuid) AND l.status = 'intended'
RETURNING (SELECT i.state FROM services.instances AS i WHERE i.id = l.instance_id) AS state;

-- record_failure --
-- Note why buying or releasing stopped, and stop.
UPDATE services.instance_services
   SET reason = CAST(:reason AS text), failures = failures + 1,
       next_try_at = now() + make_interval(secs => CAST(:pause_seconds AS float8)),
       worker = NULL, worker_expires_at = NULL, updated_at = now()
 WHERE id = CAST(:id AS bigint) AND worker = CAST(:worker AS uuid);

-- find_held --
-- Read the line of a resource by the vendor's id, or by its name where no id is known; a living line comes first.
SELECT id, instance_id, tool, status, name, attempt, resource_id, reason, failures, updated_at
  FROM services.instance_services
 WHERE instance_id = CAST(:instance_id AS text) AND tool = CAST(:tool AS text)
   AND (resource_id = CAST(:resource AS text) OR name = CAST(:resource AS text))
 ORDER BY status = 'released', id DESC LIMIT 1;

-- begin_release --
-- Note that a resource is being released, and begin. No row: somebody is at it, or it has ended.
UPDATE services.instance_services
   SET status = 'releasing', worker = CAST(:worker AS uuid), updated_at = now(),
       worker_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8))
 WHERE id = CAST(:id AS bigint) AND status IN ('intended', 'active', 'releasing')
   AND (worker IS NULL OR worker_expires_at <= now())
RETURNING id, instance_id, tool, status, name, attempt, resource_id, reason, failures, updated_at;

-- finish_release --
-- Note that the vendor confirmed the end of a resource; what it granted is forgotten.
UPDATE services.instance_services
   SET status = 'released', variables = NULL, reason = NULL, failures = 0, next_try_at = NULL,
       worker = NULL, worker_expires_at = NULL, updated_at = now()
 WHERE id = CAST(:id AS bigint) AND worker = CAST(:worker AS uuid) AND status = 'releasing'
RETURNING id;

-- put_in_stock --
-- Take a resource back into our own stock, where it rests before it is handed out again (P31). Its line here ends, so that the
-- former owner's next purchase has a name of its own.
WITH ended AS (
    UPDATE services.instance_services
       SET status = 'released', variables = NULL, reason = NULL, failures = 0, next_try_at = NULL,
           worker = NULL, worker_expires_at = NULL, updated_at = now()
     WHERE id = CAST(:id AS bigint) AND worker = CAST(:worker AS uuid) AND status = 'releasing'
 RETURNING tool, name
)
INSERT INTO services.instance_services (tool, status, name, resource_id, available_at)
SELECT ended.tool, 'cooling', ended.name, CAST(:resource_id AS text),
       now() + make_interval(secs => CAST(:cooldown_seconds AS float8))
  FROM ended
RETURNING id;

-- list_living --
-- Read what an instance holds, or may hold; what was touched longest ago comes first.
SELECT id, instance_id, tool, status, name, attempt, resource_id, reason, failures, updated_at
  FROM services.instance_services
 WHERE instance_id = CAST(:instance_id AS text) AND status IN ('intended', 'active', 'releasing')
 ORDER BY updated_at, id;

-- list_all --
-- Read everything that the ledger remembers of an instance.
SELECT id, instance_id, tool, status, name, attempt, resource_id, reason, failures, updated_at
  FROM services.instance_services
 WHERE instance_id = CAST(:instance_id AS text)
 ORDER BY id;

-- read_granted --
-- Read what the tools of an instance grant, sealed.
SELECT tool, variables FROM services.instance_services
 WHERE instance_id = CAST(:instance_id AS text) AND status = 'active' AND variables IS NOT NULL
 ORDER BY id;
