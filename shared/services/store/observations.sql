-- begin_listing --
-- Take the turn to list everything, unless one was begun too recently. The lease is the interval: when its holder dies in
-- the middle, the next one begins at its end. No row: it is not due.
WITH turn AS (
    INSERT INTO services.leases AS held (name, holder, expires_at)
    VALUES ('listing', CAST(:holder AS uuid), now() + make_interval(secs => CAST(:seconds AS float8)))
        ON CONFLICT (name) DO UPDATE
       SET holder = excluded.holder, expires_at = excluded.expires_at
     WHERE held.expires_at <= now()
 RETURNING holder
)
INSERT INTO services.listings (began_at)
SELECT now() FROM turn
RETURNING id, began_at,
          (SELECT hourly_limit FROM services.facts) AS hourly_limit,
          coalesce((SELECT l.pages FROM services.listings AS l WHERE l.complete ORDER BY l.id DESC LIMIT 1), 0) AS usual_pages;

-- record_seen --
-- Store what the provider said of some services, and what it still allows. What was seen by an observation that began later
-- stays. A verdict belongs to a running deployment: it ends when the deployment changes or no longer runs. What the provider
-- left out is unchanged. Bulk writers lock rows in the order of their ids, so that two of them cannot wait for each other.
WITH seen AS (
    SELECT i.id, s.*,
           coalesce(s.deployment_id, i.deployment_id) IS NOT DISTINCT FROM i.deployment_id
               AND coalesce(s.deploy_status, i.deploy_status) IS NOT DISTINCT FROM 'SUCCESS' AS verdict_stands
      FROM json_to_recordset(CAST(:seen AS json))
               AS s (service_id text, deployment_id text, deploy_status text, image text, domain text, began_at timestamptz)
      JOIN services.instances AS i ON i.service_id = s.service_id
     WHERE i.state <> 'destroyed'
     ORDER BY i.id FOR UPDATE OF i
), told AS (
    UPDATE services.facts
       SET hourly_limit = coalesce(CAST(:hourly_limit AS integer), hourly_limit),
           remaining = coalesce(CAST(:remaining AS integer), remaining)
     WHERE CAST(:hourly_limit AS integer) IS NOT NULL OR CAST(:remaining AS integer) IS NOT NULL
), counted AS (
    UPDATE services.listings
       SET pages = pages + 1, seen = seen + json_array_length(CAST(:seen AS json))
     WHERE id = CAST(:listing_id AS bigint)
)
UPDATE services.instances AS i
   SET seen_at = s.began_at, missing_since = NULL, gone = false,
       deployment_id = coalesce(s.deployment_id, i.deployment_id),
       deploy_status = coalesce(s.deploy_status, i.deploy_status),
       image = coalesce(s.image, i.image),
       domain = CASE WHEN i.state = 'created' THEN coalesce(s.domain, i.domain) ELSE i.domain END,
       health = CASE WHEN s.verdict_stands THEN i.health END,
       health_reason = CASE WHEN s.verdict_stands THEN i.health_reason END,
       checked_at = CASE WHEN s.verdict_stands THEN i.checked_at END,
       failed_checks = CASE WHEN s.verdict_stands THEN i.failed_checks ELSE 0 END,
       failing_since = CASE WHEN s.verdict_stands THEN i.failing_since END,
       conversation_id = CASE WHEN s.verdict_stands THEN i.conversation_id END,
       clean = CASE WHEN s.verdict_stands THEN i.clean END,
       conversation_read_at = CASE WHEN s.verdict_stands THEN i.conversation_read_at END
  FROM seen AS s
 WHERE i.id = s.id AND (i.seen_at IS NULL OR i.seen_at <= s.began_at)
RETURNING i.id, i.domain, i.deployment_id, i.deploy_status, i.image, i.seen_at, i.gone, i.health, i.health_reason,
          i.failed_checks, i.failing_since, i.checked_at, i.conversation_id, i.clean, i.conversation_read_at;

-- finish_listing --
-- End a listing. A complete one notes which built instances it did not contain; those missing since a complete listing that
-- began at least a minute earlier are gone. One that failed or was cut concludes nothing (P33, P35). Only what a listing of
-- this place covers is concluded upon, and only a built instance whose creation ended before the listing began.
WITH ended AS (
    UPDATE services.listings SET ended_at = now(), complete = CAST(:complete AS boolean)
     WHERE id = CAST(:listing_id AS bigint) AND ended_at IS NULL
 RETURNING began_at, complete
), rested AS (
    UPDATE services.leases AS held
       SET expires_at = ended.began_at + make_interval(secs => CAST(:interval_seconds AS float8))
      FROM ended
     WHERE held.name = 'listing' AND held.holder = CAST(:holder AS uuid)
), absent AS (
    SELECT i.id, ended.began_at
      FROM services.instances AS i, ended
     WHERE ended.complete AND i.state = 'created' AND i.built_at < ended.began_at
       AND (i.seen_at IS NULL OR i.seen_at < ended.began_at)
       AND i.topology = CAST(:topology AS text)
       AND (CAST(:project_id AS text) IS NULL OR i.project_id = CAST(:project_id AS text))
       AND (CAST(:environment_id AS text) IS NULL OR i.environment_id = CAST(:environment_id AS text))
     ORDER BY i.id FOR UPDATE OF i
), missed AS (
    UPDATE services.instances AS i
       SET missing_since = coalesce(i.missing_since, absent.began_at),
           gone = i.gone OR coalesce(i.missing_since, absent.began_at) <= absent.began_at - interval '60 seconds'
      FROM absent
     WHERE i.id = absent.id AND i.state = 'created' AND (i.seen_at IS NULL OR i.seen_at < absent.began_at)
)
DELETE FROM services.listings WHERE id <= CAST(:listing_id AS bigint) - 50;

-- read_batch --
-- Read the facts, the last listing that ended, and the instances asked for: those named, or one page of all that are not
-- taken down. There is always a first row; without instances its `id` is null.
SELECT now() AS now, coalesce(f.image, CAST(:first_image AS text)) AS desired_image, f.digest, f.image_checked_at,
       coalesce(f.remaining < f.hourly_limit / 10, false) AS scarce,
       l.id AS listing_id, l.began_at AS listing_at, coalesce(l.complete, false) AS listing_complete,
       i.id, i.state, i.topology, i.project_id, i.environment_id, i.service_id, i.volume_id, i.domain, i.gateway_token,
       i.deployment_id, i.deploy_status, i.image, i.seen_at, i.gone, i.health, i.health_reason, i.failed_checks,
       i.failing_since, i.checked_at, i.conversation_id, i.clean, i.conversation_read_at, i.sent_generation, i.built_at
  FROM services.facts AS f
  LEFT JOIN (SELECT id, began_at, complete FROM services.listings WHERE ended_at IS NOT NULL ORDER BY id DESC LIMIT 1) AS l ON true
  LEFT JOIN services.instances AS i
    ON i.id = ANY (CAST(:ids AS text[]) || ARRAY(
           SELECT p.id FROM services.instances AS p
            WHERE CAST(:page AS boolean) AND p.state <> 'destroyed' AND p.id > CAST(:after AS text)
            ORDER BY p.id LIMIT CAST(:count AS integer)))
 ORDER BY i.id;

-- record_verdicts --
-- Store verdicts in bulk and return the rows that took one. A verdict counts once: only if nobody else has checked that
-- deployment since. Whom the agent talks to is stored only if it was not introduced, reset or asked meanwhile, and is
-- forgotten when it is not ready, for it may come back as somebody else's (P39).
WITH verdicts AS (
    SELECT * FROM json_to_recordset(CAST(:verdicts AS json))
        AS v (id text, deployment_id text, checked_before timestamptz, checked_at timestamptz, health text, reason text,
              told boolean, conversation_id text, clean boolean, sent_generation bigint)
), held AS (
    SELECT i.id FROM services.instances AS i JOIN verdicts AS v ON v.id = i.id ORDER BY i.id FOR UPDATE OF i
)
UPDATE services.instances AS i
   SET health = v.health, health_reason = v.reason, checked_at = v.checked_at,
       failed_checks = CASE WHEN v.health = 'ready' THEN 0 ELSE i.failed_checks + 1 END,
       failing_since = CASE WHEN v.health = 'ready' THEN NULL ELSE coalesce(i.failing_since, v.checked_at) END,
       conversation_id = CASE WHEN v.health <> 'ready' THEN NULL
                              WHEN v.told AND i.conversation_read_at IS NULL AND i.sent_generation = v.sent_generation
                              THEN v.conversation_id ELSE i.conversation_id END,
       clean = CASE WHEN v.health <> 'ready' THEN NULL
                    WHEN v.told AND i.conversation_read_at IS NULL AND i.sent_generation = v.sent_generation
                    THEN v.clean ELSE i.clean END,
       conversation_read_at = CASE WHEN v.health <> 'ready' THEN NULL
                                   WHEN v.told AND i.conversation_read_at IS NULL AND i.sent_generation = v.sent_generation
                                   THEN v.checked_at ELSE i.conversation_read_at END
  FROM verdicts AS v JOIN held ON held.id = v.id
 WHERE i.id = v.id AND i.state = 'created' AND i.deploy_status = 'SUCCESS'
   AND i.deployment_id IS NOT DISTINCT FROM v.deployment_id AND i.checked_at IS NOT DISTINCT FROM v.checked_before
RETURNING i.id, i.health, i.health_reason, i.failed_checks, i.failing_since, i.checked_at, i.conversation_id, i.clean,
          i.conversation_read_at;

-- read_limits --
-- Read what the provider allows, and how large and how old the last listings are.
SELECT f.hourly_limit, f.remaining,
       (SELECT l.began_at FROM services.listings AS l WHERE l.ended_at IS NOT NULL ORDER BY l.id DESC LIMIT 1) AS listing_at,
       coalesce((SELECT l.pages FROM services.listings AS l WHERE l.complete ORDER BY l.id DESC LIMIT 1), 0) AS usual_pages
  FROM services.facts AS f;

-- read_image --
-- Read which image is desired: the one stored, or, as long as there is none, the one of the settings.
SELECT coalesce(image, CAST(:first_image AS text)) AS image, digest, image_checked_at, now() AS now FROM services.facts;

-- take_image_turn --
-- Take the turn to look the image's tag up, at most once in so many seconds, whatever the number of processes.
UPDATE services.facts
   SET image = coalesce(image, CAST(:first_image AS text)), image_checked_at = now()
 WHERE image_checked_at IS NULL OR image_checked_at <= now() - make_interval(secs => CAST(:seconds AS float8))
RETURNING image;

-- replace_image --
-- Desire another image; its digest is not known yet. The same one again keeps what is known of it.
UPDATE services.facts
   SET image = CAST(:image AS text), image_checked_at = now(),
       digest = CASE WHEN image = CAST(:image AS text) THEN digest END, candidate_digest = NULL
RETURNING image, digest, image_checked_at, now() AS now;

-- record_digest --
-- Store what a tag stood for just now. The first digest counts at once, another one when it is found twice in a row (P23).
UPDATE services.facts
   SET digest = CASE WHEN digest IS NULL OR candidate_digest = CAST(:digest AS text) OR CAST(:at_once AS boolean)
                     THEN CAST(:digest AS text) ELSE digest END,
       candidate_digest = CAST(:digest AS text)
 WHERE image = CAST(:image AS text)
RETURNING image, digest, image_checked_at, now() AS now;

-- record_redeployed --
-- Note that a new deployment was asked for: what is known of the former one no longer holds, and an older observation of it
-- must not come back.
UPDATE services.instances
   SET launched_image = CAST(:image AS text), deploy_status = NULL, seen_at = now(), missing_since = NULL, gone = false,
       health = NULL, health_reason = NULL, checked_at = NULL, failed_checks = 0, failing_since = NULL,
       conversation_id = NULL, clean = NULL, conversation_read_at = NULL
 WHERE id = CAST(:instance_id AS text) AND state = 'created';
