"""Behind a real PgBouncer in transaction mode: every answer belongs to its question, and nothing leaks to other clients.

The driver's own `run` with parameters, three round trips, gets other clients' answers there most of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.local.postgres import Server
from infra.migrate import MigrationError, migrate
from shared.db import Database, Query
from shared.db.address import parse_address
from shared.errors import ConflictError, DatabaseUnavailableError
from tests.databases import connect
from tests.pgbouncer import pgbouncer
from tests.proxy import CountingProxy

CALLS_PER_THREAD = 600
SERVER_CONNECTIONS = 2


def query(text: str) -> Query:
    return Query.parse("probe", text + ";")


@pytest.fixture
def pooled_url(require_tool: Callable[[str], str], postgres_server: Server, empty_database_url: str) -> Iterator[str]:
    program = require_tool("pgbouncer")
    wire = connect(empty_database_url)
    wire.script("CREATE TABLE t (id int PRIMARY KEY, word text)")
    wire.hang_up()
    name = parse_address(empty_database_url).database
    with pgbouncer(program, postgres_server, server_connections=SERVER_CONNECTIONS, database=name) as url:
        yield url


@pytest.fixture
def db(pooled_url: str) -> Iterator[Database]:
    opened = Database(pooled_url, max_connections=8)
    yield opened
    opened.close()


def test_every_answer_is_for_its_own_question(db: Database) -> None:
    """Eight threads, statements that return different columns, two server processes."""
    statements = [query(f"SELECT :value::int * {n} AS product_{n}, pg_backend_pid() AS pid") for n in range(1, 8)]

    def ask(thread: int) -> set[int]:
        pids = set()
        for turn in range(CALLS_PER_THREAD):
            n = (thread + turn) % 7 + 1
            (row,) = db.run(statements[n - 1], value=turn)
            assert row[f"product_{n}"] == turn * n
            pids.add(row["pid"])
        return pids

    with ThreadPoolExecutor(8) as threads:
        pids = set().union(*threads.map(ask, range(8)))
    assert 1 <= len(pids) <= SERVER_CONNECTIONS
    assert len(db._wires) > SERVER_CONNECTIONS


def test_transactions_keep_together(db: Database) -> None:
    add = query("INSERT INTO t (id, word) VALUES (:id::int, :word) RETURNING pg_backend_pid() AS pid, txid_current() AS tx")

    def write(thread: int) -> None:
        for turn in range(50):
            with db.transaction() as tx:
                first = tx.run(add, id=thread * 1000 + 2 * turn, word="a")
                second = tx.run(add, id=thread * 1000 + 2 * turn + 1, word="b")
            assert first == second

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert db.run(query("SELECT count(*) AS n FROM t")) == [{"n": 800}]


def test_the_pooler_is_noticed_without_being_told(db: Database, pooled_url: str, empty_database_url: str) -> None:
    behind, direct = connect(pooled_url), connect(empty_database_url)
    assert (behind.pooled, direct.pooled) == (True, False)
    told = connect(empty_database_url + "&pooler=transaction")
    assert told.pooled
    for wire in (behind, direct, told):
        wire.hang_up()


def test_no_setting_and_no_statement_leaks_to_other_clients(db: Database, pooled_url: str, empty_database_url: str) -> None:
    limits = query("SELECT current_setting('statement_timeout') AS s, current_setting('lock_timeout') AS l")
    assert db.run(limits) == [{"s": "30s", "l": "10s"}]
    with db.transaction() as tx:
        assert tx.run(limits) == [{"s": "30s", "l": "10s"}]
        assert tx.run(limits) == [{"s": "30s", "l": "10s"}]
    other = connect(pooled_url)
    assert other.script(limits.sql) == [{"s": "0", "l": "0"}]
    assert other.script("SELECT count(*) AS n FROM pg_prepared_statements") == [{"n": 0}]
    other.hang_up()


def test_a_statement_that_takes_too_long_is_stopped_by_the_server(pooled_url: str) -> None:
    db = Database(pooled_url, statement_timeout_seconds=0.1)
    with pytest.raises(DatabaseUnavailableError) as slow:
        db.run(query("SELECT pg_sleep(:seconds::float8)"), seconds=5)
    assert slow.value.code == "database_timeout"
    assert db.run(query("SELECT 1 AS one")) == [{"one": 1}]
    db.close()


def test_failures_leave_the_connection_usable(db: Database) -> None:
    add = query("INSERT INTO t (id) VALUES (:id::int)")
    db.run(add, id=1)
    for _ in range(5):
        with pytest.raises(ConflictError):
            db.run(add, id=1)
    with pytest.raises(ConflictError), db.transaction() as tx:
        tx.run(add, id=1)
    assert db.run(query("SELECT count(*) AS n FROM t")) == [{"n": 1}]


def test_a_statement_is_one_round_trip_there_too(pooled_url: str) -> None:
    with CountingProxy("127.0.0.1", parse_address(pooled_url).port) as proxy:
        db = Database(proxy.redirect(pooled_url), max_connections=1)
        statement = query("SELECT :value::int AS value")
        db.run(statement, value=0)
        for value in range(3):
            with proxy.expect(1):
                assert db.run(statement, value=value) == [{"value": value}]
        with proxy.expect(3), db.transaction() as tx:
            tx.run(statement, value=1)
            tx.run(statement, value=2)
        db.close()


def test_migrations_refuse_a_pooler(pooled_url: str) -> None:
    with pytest.raises(MigrationError, match="server itself"):
        migrate("pool", pooled_url)
