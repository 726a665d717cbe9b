-- The statements that the connections need for themselves.

-- greet --
-- Which server process answers; and the time limits, set only where that process is ours alone. Behind a pooler that shares
-- server processes the number differs from the one told at connecting, and a setting would leak to other clients.
SELECT pg_backend_pid() AS process,
       CASE WHEN :shared = 'no' OR (:shared = 'ask' AND pg_backend_pid() = :process::int) THEN concat(
           set_config('statement_timeout', :statement, false),
           set_config('lock_timeout', :lock, false),
           set_config('idle_in_transaction_session_timeout', :idle, false)
       ) END AS limits;

-- limit_transaction --
-- The same limits for one transaction; with a shared server process they travel with each.
SELECT set_config('statement_timeout', :statement, true),
       set_config('lock_timeout', :lock, true),
       set_config('idle_in_transaction_session_timeout', :idle, true);

-- begin --
-- Open a transaction; sent together with its first statement.
BEGIN;

-- commit --
-- Keep what the transaction did.
COMMIT;

-- rollback --
-- Forget what the transaction did.
ROLLBACK;
