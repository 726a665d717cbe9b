-- read_known --
-- Read, at one moment, everything that our tables say a vendor holds or may hold. There is always a first row; when nothing is
-- known its `vendor` is null. `expected`: the vendor must have it, and the listing covers its place. `under_way`: whatever is
-- held under the name may belong to it, because a purchase or a creation has not ended or its answer was lost.
SELECT now() AS now, k.vendor, k.instance_id, k.name, k.resource, k.under_way, k.expected
  FROM (SELECT) AS always
  LEFT JOIN (
        SELECT l.tool AS vendor, l.instance_id, l.name, l.resource_id AS resource,
               l.status = 'intended' OR l.resource_id IS NULL AS under_way, l.status = 'active' AS expected
          FROM services.instance_services AS l
         WHERE l.status IN ('intended', 'active', 'releasing', 'cooling')
     UNION ALL
        SELECT 'hosting', i.id, i.name, i.service_id,
               i.state = 'creating' OR i.service_id IS NULL,
               i.state = 'created' AND i.topology = CAST(:topology AS text)
                   AND (CAST(:project_id AS text) IS NULL OR i.project_id = CAST(:project_id AS text))
                   AND (CAST(:environment_id AS text) IS NULL OR i.environment_id = CAST(:environment_id AS text))
          FROM services.instances AS i
         WHERE i.state <> 'destroyed'
       ) AS k ON true;

-- record --
-- Store what one sweep found. A finding that is met again goes on; one of a vendor that was listed to the end and that is met no
-- more is resolved, unless its end was begun and has not been confirmed. No row: the turn is another's by now.
WITH turn AS (
    SELECT h.name FROM services.leases AS h WHERE h.name = 'sweep' AND h.holder = CAST(:holder AS uuid) FOR UPDATE
), found AS (
    SELECT f.* FROM turn, json_to_recordset(CAST(:found AS json))
        AS f (kind text, vendor text, resource text, name text, instance_id text, vendor_created_at timestamptz)
), resolved AS (
    UPDATE services.findings AS o SET resolved_at = now()
      FROM turn
     WHERE o.resolved_at IS NULL AND o.vendor = ANY (CAST(:complete AS text[]))
       AND NOT EXISTS (SELECT FROM found AS f
                        WHERE f.kind = o.kind AND f.vendor = o.vendor AND f.resource = o.resource AND f.name = o.name)
       AND NOT EXISTS (SELECT FROM services.instance_services AS l
                        WHERE o.acted_at IS NOT NULL AND l.instance_id = concat('swept-', o.id) AND l.status = 'releasing')
), stored AS (
    INSERT INTO services.findings AS o (kind, vendor, resource, name, instance_id, vendor_created_at, first_seen_at, last_seen_at)
    SELECT f.kind, f.vendor, f.resource, f.name, f.instance_id, f.vendor_created_at,
           CAST(:began_at AS timestamptz), CAST(:began_at AS timestamptz)
      FROM found AS f
        ON CONFLICT (kind, vendor, resource, name) WHERE resolved_at IS NULL DO UPDATE
       SET last_seen_at = excluded.last_seen_at, times_seen = o.times_seen + 1,
           vendor_created_at = coalesce(excluded.vendor_created_at, o.vendor_created_at)
)
SELECT name FROM turn;

-- list_open --
-- Read what is not resolved; an orphan only past the grace period, which counts from our first sight where the vendor tells no
-- time. A finding is confirmed when two sweeps saw it that began at least a minute apart.
SELECT id, kind, vendor, resource, name, instance_id, vendor_created_at, first_seen_at, last_seen_at, times_seen, acted_at, reason,
       last_seen_at >= first_seen_at + interval '60 seconds' AS confirmed
  FROM services.findings
 WHERE resolved_at IS NULL
   AND (kind = 'missing'
        OR coalesce(vendor_created_at, first_seen_at) <= now() - make_interval(secs => CAST(:grace_seconds AS float8)))
 ORDER BY id;

-- adopt --
-- Take an orphan of a tool into the ledger as something that is being released, under an owner that no instance is, so that the
-- tool's function can release it like anything else. No row: our tables know of it meanwhile, or the turn is another's.
WITH adopted AS (
    INSERT INTO services.instance_services (instance_id, tool, status, name, resource_id)
    SELECT CAST(:adopter AS text), f.vendor, 'releasing', f.name, f.resource
      FROM services.findings AS f, services.leases AS h
     WHERE f.id = CAST(:id AS bigint) AND f.kind = 'orphan' AND f.resolved_at IS NULL
       AND h.name = 'sweep' AND h.holder = CAST(:holder AS uuid)
       AND NOT EXISTS (SELECT FROM services.instance_services AS l
                        WHERE l.tool = f.vendor AND l.status IN ('intended', 'active', 'releasing', 'cooling')
                          AND (l.resource_id = f.resource
                               OR ((l.status = 'intended' OR l.resource_id IS NULL)
                                   AND split_part(l.name, '.', 1) = split_part(f.name, '.', 1))))
        ON CONFLICT DO NOTHING
 RETURNING id
)
UPDATE services.findings AS f SET acted_at = coalesce(f.acted_at, now())
  FROM adopted
 WHERE f.id = CAST(:id AS bigint)
RETURNING f.id;

-- begin_removal --
-- Note that an orphan of the host is about to be removed. No row: our tables know of it meanwhile, or the turn is another's.
UPDATE services.findings AS f SET acted_at = coalesce(f.acted_at, now())
  FROM services.leases AS h
 WHERE f.id = CAST(:id AS bigint) AND f.kind = 'orphan' AND f.resolved_at IS NULL
   AND h.name = 'sweep' AND h.holder = CAST(:holder AS uuid)
   AND NOT EXISTS (SELECT FROM services.instances AS i
                    WHERE i.state <> 'destroyed'
                      AND (i.service_id = f.resource
                           OR ((i.state = 'creating' OR i.service_id IS NULL) AND i.name = split_part(f.name, '.', 1))))
RETURNING f.id;

-- resolve --
-- Note that what was found has ended.
UPDATE services.findings SET resolved_at = now(), reason = NULL WHERE id = CAST(:id AS bigint) AND resolved_at IS NULL;

-- record_problem --
-- Note why what was found could not be ended.
UPDATE services.findings SET reason = CAST(:reason AS text) WHERE id = CAST(:id AS bigint) AND resolved_at IS NULL;

-- forget_resolved --
-- Delete findings that were resolved long ago, with the ledger's lines of what they released, a few at a time.
WITH old AS (
    SELECT f.id FROM services.findings AS f
     WHERE f.resolved_at < now() - make_interval(days => CAST(:days AS integer))
     ORDER BY f.resolved_at LIMIT CAST(:count AS integer) FOR UPDATE SKIP LOCKED
), remembered AS (
    DELETE FROM services.instance_services AS l USING old
     WHERE l.instance_id = concat('swept-', old.id) AND l.status = 'released'
)
DELETE FROM services.findings AS f USING old WHERE f.id = old.id;
