-- read_target --
-- Read where an instance is and what it is asked with, without changing anything.
SELECT id, state, domain, gateway_token FROM services.instances WHERE id = CAST(:instance_id AS text);

-- record_sent --
-- Record that an introduction is about to be sent, if it still may be: the instance is built and nobody works on it, the
-- generation is newer than every one sent or closed, the time is not over, and the claim has no answer yet. The row lock on
-- the instance decides between two senders, and between a sender and whoever closes the generation. What was known of its
-- conversation no longer holds. No row: it may not be sent.
WITH sent AS (
    UPDATE services.instances AS i
       SET sent_generation = CAST(:generation AS bigint), conversation_id = NULL, clean = NULL, conversation_read_at = NULL
     WHERE i.id = CAST(:instance_id AS text) AND i.state = 'created'
       AND (i.worker IS NULL OR i.worker_expires_at <= now())
       AND i.sent_generation < CAST(:generation AS bigint) AND i.closed_generation < CAST(:generation AS bigint)
       AND now() <= CAST(:not_after AS timestamptz)
       AND NOT EXISTS (SELECT FROM services.hand_overs AS h
                        WHERE h.instance_id = i.id AND h.claim_id = CAST(:claim_id AS text) AND h.answer IS NOT NULL)
 RETURNING i.id, i.state, i.domain, i.gateway_token
), recorded AS (
    INSERT INTO services.hand_overs (instance_id, generation, claim_id, joining)
    SELECT id, CAST(:generation AS bigint), CAST(:claim_id AS text), CAST(:joining AS boolean) FROM sent
)
SELECT id, state, domain, gateway_token,
       extract(epoch FROM CAST(:not_after AS timestamptz) - now())::float8 AS seconds_left
  FROM sent;

-- read_standing --
-- Read what stands for or against an introduction: the instance's state, the fence, and the claim's answer if there is one.
SELECT i.id, i.state, i.domain, i.gateway_token, coalesce(i.worker_expires_at > now(), false) AS busy, h.answer,
       CAST(:generation AS bigint) <= i.closed_generation AS closed,
       CAST(:generation AS bigint) <= i.sent_generation AS sent
  FROM services.instances AS i
  LEFT JOIN LATERAL (SELECT answer FROM services.hand_overs
                      WHERE instance_id = i.id AND claim_id = CAST(:claim_id AS text) AND answer IS NOT NULL
                      ORDER BY generation DESC LIMIT 1) AS h ON true
 WHERE i.id = CAST(:instance_id AS text);

-- withdraw --
-- Forget an introduction that certainly told the instance nothing. Its generation stays spent.
DELETE FROM services.hand_overs
 WHERE instance_id = CAST(:instance_id AS text) AND generation = CAST(:generation AS bigint) AND answer IS NULL;

-- record_refused --
-- Note that the instance was bound already when this introduction came: the conversation it has is not of this claim.
UPDATE services.hand_overs SET refused = true
 WHERE instance_id = CAST(:instance_id AS text) AND generation = CAST(:generation AS bigint) AND answer IS NULL;

-- record_answer --
-- Keep the runtime's answer, unless the generation was closed, or sent anew, meanwhile: then it has come too late to count.
WITH bound AS (
    UPDATE services.instances
       SET conversation_id = CAST(:conversation_id AS text), clean = false, conversation_read_at = now()
     WHERE id = CAST(:instance_id AS text) AND sent_generation = CAST(:generation AS bigint)
       AND (CAST(:although_closed AS boolean) OR closed_generation < CAST(:generation AS bigint))
 RETURNING id
)
UPDATE services.hand_overs AS h
   SET answer = CAST(:answer AS jsonb), answered_at = now()
  FROM bound
 WHERE h.instance_id = bound.id AND h.generation = CAST(:generation AS bigint) AND h.answer IS NULL
RETURNING h.answer;

-- close --
-- Close all generations up to this one for good: none of them can be sent from now on. Who sends at this moment either has
-- committed before, and is seen by what is read next, or finds itself closed.
UPDATE services.instances
   SET closed_generation = greatest(closed_generation, CAST(:generation AS bigint))
 WHERE id = CAST(:instance_id AS text)
RETURNING id, state, domain, gateway_token;

-- read_hand_over --
-- Read one introduction that was, or may have been, sent.
SELECT joining, refused, answer FROM services.hand_overs
 WHERE instance_id = CAST(:instance_id AS text) AND generation = CAST(:generation AS bigint);

-- begin_reset --
-- Note that an instance is about to be reset, and become its one worker, so that nothing is sent meanwhile. Only a closed
-- generation that is not older than the newest sent one may reset: nobody's agent is wiped by a late call. Its answers are
-- void from now on. No row: it may not, or somebody works on it.
WITH taken AS (
    UPDATE services.instances
       SET conversation_id = NULL, clean = NULL, conversation_read_at = NULL,
           worker = CAST(:worker AS uuid),
           worker_expires_at = now() + make_interval(secs => CAST(:lease_seconds AS float8))
     WHERE id = CAST(:instance_id AS text) AND state = 'created'
       AND (worker IS NULL OR worker_expires_at <= now())
       AND closed_generation >= CAST(:generation AS bigint) AND sent_generation <= CAST(:generation AS bigint)
 RETURNING id, state, domain, gateway_token
), voided AS (
    UPDATE services.hand_overs AS h SET answer = NULL, answered_at = NULL
      FROM taken WHERE h.instance_id = taken.id AND h.answer IS NOT NULL
)
SELECT id, state, domain, gateway_token FROM taken;

-- finish_reset --
-- Note what the runtime proved after a reset, and stop working on it.
UPDATE services.instances
   SET worker = NULL, worker_expires_at = NULL,
       conversation_id = NULL, clean = CAST(:clean AS boolean),
       conversation_read_at = CASE WHEN CAST(:clean AS boolean) IS NOT NULL THEN now() END
 WHERE id = CAST(:instance_id AS text) AND worker = CAST(:worker AS uuid);

-- read_token_hash --
-- Read what an instance's gateway token is recognised by, and how many living instances share it.
SELECT i.gateway_token_hash,
       (SELECT count(*) FROM services.instances AS o
         WHERE o.gateway_token_hash = i.gateway_token_hash AND o.state <> 'destroyed') AS owners
  FROM services.instances AS i
 WHERE i.id = CAST(:instance_id AS text) AND i.state <> 'destroyed' AND i.gateway_token_hash IS NOT NULL;
