-- take --
-- Take a turn at something that only one may do at a time; one that was held too long is free for anybody.
INSERT INTO services.leases AS held (name, holder, expires_at)
VALUES (CAST(:name AS text), CAST(:holder AS uuid), now() + make_interval(secs => CAST(:seconds AS float8)))
    ON CONFLICT (name) DO UPDATE
   SET holder = excluded.holder, expires_at = excluded.expires_at
 WHERE held.expires_at <= now()
RETURNING holder;

-- end --
-- End a turn, if it is still this one's.
DELETE FROM services.leases WHERE name = CAST(:name AS text) AND holder = CAST(:holder AS uuid);
