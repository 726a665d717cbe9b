"""`shared.db` against a real Postgres: values, transactions, errors, lost connections, threads, round trips."""
# ruff: noqa: PT012 - what a transaction's block does before it raises is the point

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import uuid4

import pg8000.core
import pytest
from pydantic import SecretStr

from infra.local.postgres import Server
from shared.db import Database, Json, Query
from shared.db.address import parse_address
from shared.errors import (
    ConflictError,
    ConstraintError,
    DatabaseUnavailableError,
    RequestError,
    SettingsError,
    StatementError,
)
from tests.databases import Databases, connect
from tests.proxy import CountingProxy


def query(text: str) -> Query:
    return Query.parse("probe", text + ";")


MINE = query("SELECT pg_backend_pid() AS pid")
ADD = query("INSERT INTO t (id, word) VALUES (:id::int, :word)")
COUNT = query("SELECT count(*) AS n FROM t")
SLEEP = query("SELECT pg_sleep(:seconds::float8)")


@pytest.fixture
def url(empty_database_url: str) -> str:
    wire = connect(empty_database_url)
    wire.script("CREATE TABLE t (id int PRIMARY KEY, word text NOT NULL CONSTRAINT short CHECK (length(word) < 10))")
    wire.hang_up()
    return empty_database_url


@pytest.fixture
def open_database(url: str) -> Iterator[Callable[..., Database]]:
    opened: list[Database] = []

    def make(*, to: str = url, **options: Any) -> Database:
        opened.append(Database(to, **options))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def db(open_database: Callable[..., Database]) -> Database:
    return open_database()


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", "naïve ☃ 'quoted' :name $1"),
        ("text", ""),
        ("int", -7),
        ("bigint", 2**60),
        ("bool", True),
        ("float8", 0.1),
        ("timestamptz", datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC)),
        ("timestamptz", datetime(2026, 2, 3, tzinfo=UTC)),
        ("date", date(2026, 2, 3)),
        ("interval", timedelta(days=2, seconds=3, microseconds=4)),
        ("uuid", uuid4()),
        ("bytea", b"\x00\xff"),
        ("jsonb", {"a": [1, None, "é"]}),
        ("text[]", ["null", "NULL", "", "a,b", '"', "\\", "{}", None, " x "]),
        ("int[]", [1, 2]),
        ("text[]", []),
        ("text", None),
    ],
)
def test_a_value_comes_back_as_it_was_sent(db: Database, kind: str, value: object) -> None:
    statement = query(f"SELECT :value::{kind} AS value")
    assert db.run(statement, value=value) == [{"value": value}]
    assert db.run(statement, value=value) == [{"value": value}]


def test_a_list_of_objects_goes_as_json_and_an_enum_by_its_value(db: Database) -> None:
    rows = db.run(query("SELECT * FROM jsonb_to_recordset(:rows::jsonb) AS r(a int)"), rows=Json([{"a": 1}, {"a": 2}]))
    assert rows == [{"a": 1}, {"a": 2}]
    assert db.run(query("SELECT :colour AS colour"), colour=Colour.RED) == [{"colour": "red"}]


@pytest.mark.parametrize("value", [SecretStr("s"), object(), datetime(2026, 1, 1), [{"a": 1}]])  # noqa: DTZ001
def test_a_value_that_could_only_be_guessed_is_refused(db: Database, value: object) -> None:
    with pytest.raises(TypeError):
        db.run(query("SELECT :value::text AS value"), value=value)


@pytest.mark.parametrize("value", ["a\0b", "\ud800", {"a": "\0"}, {"a": float("nan")}])
def test_text_that_postgres_cannot_store_is_the_callers_mistake(db: Database, value: object) -> None:
    kind = "jsonb" if isinstance(value, dict) else "text"
    with pytest.raises(RequestError):
        db.run(query(f"SELECT :value::{kind} AS value"), value=value)
    assert db.run(MINE)


def test_wrong_parameter_names_are_refused_before_anything_is_sent(db: Database) -> None:
    with pytest.raises(TypeError, match="takes id, word"):
        db.run(ADD, id=1)


def test_changed_rows_are_counted(db: Database) -> None:
    assert db.run(ADD, id=1, word="one").row_count == 1
    assert db.run(query("UPDATE t SET word = 'x' WHERE id > 5")).row_count == 0
    assert db.run(query("UPDATE t SET word = 'x'")).row_count == 1


def test_a_transaction_is_kept_when_its_block_ends(db: Database) -> None:
    with db.transaction() as tx:
        tx.run(ADD, id=1, word="one")
        tx.run(ADD, id=2, word="two")
        assert db.run(COUNT) == [{"n": 0}]
    assert db.run(COUNT) == [{"n": 2}]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_transaction_is_forgotten_when_its_block_raises(db: Database, error: type[BaseException]) -> None:
    with pytest.raises(error), db.transaction() as tx:
        tx.run(ADD, id=1, word="one")
        raise error
    assert db.run(COUNT) == [{"n": 0}]


def test_a_swallowed_failure_does_not_pass_for_a_commit(db: Database) -> None:
    """Postgres answers COMMIT of a failed transaction with a quiet ROLLBACK."""
    with pytest.raises(StatementError, match="nothing of it was kept"), db.transaction() as tx:
        tx.run(ADD, id=1, word="one")
        with pytest.raises(ConflictError):
            tx.run(ADD, id=1, word="again")
    assert db.run(COUNT) == [{"n": 0}]


def test_a_failing_first_statement_leaves_no_transaction_behind(open_database: Callable[..., Database]) -> None:
    db = open_database(max_connections=1)
    with pytest.raises(ConstraintError), db.transaction() as tx:
        tx.run(ADD, id=1, word="much too long")
    assert db.run(ADD, id=2, word="two").row_count == 1
    assert db.run(COUNT) == [{"n": 1}]


def test_a_broken_rule_names_the_constraint_and_never_the_value(db: Database) -> None:
    db.run(ADD, id=1, word="one")
    with pytest.raises(ConflictError) as conflict:
        db.run(ADD, id=1, word="hush")
    assert (conflict.value.code, conflict.value.details) == ("unique_violation", {"constraint": "t_pkey"})
    with pytest.raises(ConstraintError) as rule:
        db.run(ADD, id=2, word="hush-hush-hush")
    assert (rule.value.code, rule.value.details) == ("check_violation", {"constraint": "short"})
    for error in (conflict.value, rule.value):
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert "hush" not in str(error)


def test_a_mistake_in_a_statement_is_told_to_the_programmer(db: Database) -> None:
    with pytest.raises(StatementError, match=r'probe .42703.: column "nowhere" does not exist'):
        db.run(query("SELECT nowhere FROM t"))
    with pytest.raises(StatementError) as refused:
        db.run(query("SELECT :word::int AS n"), word="secret")
    assert "secret" not in str(refused.value)


def test_a_statement_that_takes_too_long_is_stopped_by_the_server(open_database: Callable[..., Database]) -> None:
    db = open_database(statement_timeout_seconds=0.1, max_connections=1)
    first = db.run(MINE)
    with pytest.raises(DatabaseUnavailableError) as slow:
        db.run(SLEEP, seconds=5)
    assert slow.value.code == "database_timeout"
    assert db.run(MINE) == first


def test_waiting_for_a_lock_ends_as_busy(open_database: Callable[..., Database]) -> None:
    db = open_database(statement_timeout_seconds=0.2, max_connections=2)
    # The lock's limit is never above the statement's; lower it so that it strikes first.
    with db.transaction() as tx:
        tx.run(query("LOCK TABLE t"))
        with pytest.raises(DatabaseUnavailableError) as busy, db.transaction() as other:
            other.run(query("SELECT set_config('lock_timeout', '20ms', true)"))
            other.run(COUNT)
    assert busy.value.code == "database_busy"


def test_a_connection_that_died_while_idle_is_replaced_unnoticed(db: Database, url: str) -> None:
    """P48."""
    before = db.run(MINE)
    kill_others(url)
    assert db.run(ADD, id=1, word="one").row_count == 1
    assert db.run(MINE) != before


def test_a_read_survives_losing_its_connection_and_a_write_is_not_repeated(db: Database, url: str) -> None:
    """P48: only what changes nothing is asked again."""
    once = query(
        "SELECT pg_terminate_backend(pg_backend_pid()) FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        " AND backend_start < :limit::timestamptz"
    )
    limit = db.run(query("SELECT clock_timestamp() AS now"))[0]["now"]
    assert db.read(once, limit=limit) == []
    limit = db.run(query("SELECT clock_timestamp() AS now"))[0]["now"]
    with pytest.raises(DatabaseUnavailableError, match="outcome is unknown"):
        db.run(once, limit=limit)
    assert db.run(MINE)


def test_losing_the_connection_inside_a_transaction_undoes_it(db: Database, url: str) -> None:
    with pytest.raises(DatabaseUnavailableError), db.transaction() as tx:
        tx.run(ADD, id=1, word="one")
        kill_others(url)
        tx.run(ADD, id=2, word="two")
    assert db.run(COUNT) == [{"n": 0}]


def test_a_ctrl_c_during_a_statement_gives_its_connection_up(open_database: Callable[..., Database]) -> None:
    db = open_database(max_connections=1)
    before = db.run(MINE)
    interrupt = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        db.run(SLEEP, seconds=5)
    interrupt.join()
    assert db.run(MINE) != before


def test_a_restart_of_the_server_is_survived(postgres_server: Server, db: Database) -> None:
    """P48."""
    db.run(ADD, id=1, word="one")
    postgres_server.restart()
    assert db.run(COUNT) == [{"n": 1}]


def test_a_server_that_is_away_is_said_so_and_found_again(postgres_server: Server, db: Database) -> None:
    db.run(MINE)
    port = postgres_server.port
    postgres_server.stop()
    try:
        for attempt in (db.run, db.read):
            with pytest.raises(DatabaseUnavailableError):
                attempt(MINE)
    finally:
        postgres_server.restart()
    assert postgres_server.port == port
    assert db.run(MINE)


def test_eight_threads_share_three_connections_and_get_their_own_answers(open_database: Callable[..., Database]) -> None:
    db = open_database(max_connections=3)
    statements = [query(f"SELECT :a::int + {n} AS sum, pg_backend_pid() AS pid") for n in range(10)]

    def ask(thread: int) -> set[int]:
        pids = set()
        for turn in range(300):
            n = (thread + turn) % 10
            (row,) = db.run(statements[n], a=thread * 1000 + turn)
            assert row["sum"] == thread * 1000 + turn + n
            pids.add(row["pid"])
        return pids

    with ThreadPoolExecutor(8) as threads:
        pids = set().union(*threads.map(ask, range(8)))
    assert len(pids) <= 3


def test_nobody_waits_for_ever_for_a_connection(open_database: Callable[..., Database]) -> None:
    db = open_database(max_connections=1, wait_seconds=0.1)
    with db.transaction() as tx:
        tx.run(MINE)
        with pytest.raises(DatabaseUnavailableError, match="All 1 connections") as busy:
            db.run(MINE)
    assert busy.value.code == "database_busy"
    assert db.run(MINE)


def test_a_waiting_thread_gets_the_connection_that_comes_free(open_database: Callable[..., Database]) -> None:
    db = open_database(max_connections=1)
    answers: list[int] = []
    with db.transaction() as tx:
        tx.run(MINE)
        waiting = threading.Thread(target=lambda: answers.append(len(db.run(MINE))))
        waiting.start()
        time.sleep(0.05)
        assert not answers
    waiting.join(5)
    assert answers == [1]


def test_a_forked_child_opens_connections_of_its_own(db: Database) -> None:
    before = db.run(MINE)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(db.run(MINE)[0]["pid"]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    theirs = int(os.read(reader, 100))
    os.close(reader)
    assert theirs != before[0]["pid"]
    assert db.run(MINE) == before


def test_nothing_connects_before_the_first_statement() -> None:
    Database("postgresql://nobody:x@127.0.0.1:1/none")


def test_a_plan_that_a_migration_made_stale_is_prepared_again(open_database: Callable[..., Database]) -> None:
    db = open_database(max_connections=1)
    star = query("SELECT * FROM t")
    db.run(ADD, id=1, word="one")
    assert db.run(star) == [{"id": 1, "word": "one"}]
    db.run(query("ALTER TABLE t ADD COLUMN extra int DEFAULT 5"))
    assert db.run(star) == [{"id": 1, "word": "one", "extra": 5}]
    before = db.round_trips
    assert db.run(star) == [{"id": 1, "word": "one", "extra": 5}]
    assert db.round_trips - before == 1


def test_a_stale_plan_inside_a_transaction_ends_it_and_the_next_one_works(open_database: Callable[..., Database]) -> None:
    db = open_database(max_connections=1)
    star = query("SELECT * FROM t")
    db.run(star)
    db.run(query("ALTER TABLE t ADD COLUMN extra int DEFAULT 5"))
    with pytest.raises(DatabaseUnavailableError), db.transaction() as tx:
        tx.run(ADD, id=1, word="one")
        tx.run(star)
    with db.transaction() as tx:
        tx.run(ADD, id=2, word="two")
        assert tx.run(star) == [{"id": 2, "word": "two", "extra": 5}]


def test_a_statement_is_one_round_trip_on_the_wire_from_its_first_run_on(
    url: str, open_database: Callable[..., Database]
) -> None:
    with CountingProxy("127.0.0.1", parse_address(url).port) as proxy:
        db = open_database(to=proxy.redirect(url), max_connections=1)
        db.run(MINE)
        for number in range(3):
            with proxy.expect(1):
                db.run(ADD, id=number, word="one")
        with proxy.expect(3), db.transaction() as tx:
            tx.run(ADD, id=10, word="ten")
            tx.run(COUNT)
        with proxy.expect(2), pytest.raises(ValueError, match="stop"), db.transaction() as tx:
            tx.run(ADD, id=11, word="eleven")
            raise ValueError("stop")
        with proxy.expect(0), db.transaction():
            pass
        with proxy.expect(1):
            db.run(query("SELECT length(:text) AS n"), text="x" * 200_000)
        assert db.round_trips == proxy.round_trips - proxy.round_trips_to_connect
        db.close()


def test_a_silent_server_is_given_up_after_the_client_side_limit(url: str, open_database: Callable[..., Database]) -> None:
    with CountingProxy("127.0.0.1", parse_address(url).port) as proxy:
        db = open_database(to=proxy.redirect(url), max_connections=1)
        db.run(MINE)
        (wire,) = db._wires
        wire._usock.settimeout(0.2)
        proxy.mute()
        with pytest.raises(DatabaseUnavailableError):
            db.run(MINE)


def test_time_limits_stand_on_a_connection_of_our_own(db: Database) -> None:
    shown = db.run(query("SELECT current_setting('statement_timeout') AS s, current_setting('lock_timeout') AS l"))
    assert shown == [{"s": "30s", "l": "10s"}]


def test_a_unix_socket_is_used_when_the_url_names_its_folder(
    postgres_server: Server, url: str, open_database: Callable[..., Database]
) -> None:
    address = parse_address(url)
    place = f"postgresql://{address.user}@localhost:{address.port}/{address.database}?host={postgres_server.socket_folder}"
    where = open_database(to=place).run(query("SELECT inet_client_addr() AS address"))
    assert where == [{"address": None}]


def test_a_wrong_password_or_database_is_a_mistake_in_the_settings(url: str, open_database: Callable[..., Database]) -> None:
    address = parse_address(url)
    for wrong in (url.replace(str(address.password), "wrong"), url.replace(address.database, "nowhere")):
        with pytest.raises(SettingsError, match="user, password and database") as refused:
            open_database(to=wrong).run(MINE)
        assert "wrong" not in str(refused.value)


def test_a_server_without_tls_is_not_spoken_to_when_tls_is_asked_for(url: str, open_database: Callable[..., Database]) -> None:
    db = open_database(to=url.replace("sslmode=disable", "sslmode=require"))
    with pytest.raises(SettingsError, match="does not offer TLS"):
        db.run(MINE)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hush@h/d",
        "postgresql://u:hush@h:port/d",
        "postgresql://u:hush@h",
        "postgresql://u:hush@h/d?sslmode=prefer",
        "postgresql://u:hush@h/d?colour=red",
        "postgresql://u:hush@h/d?pooler=yes",
        "postgresql://u:hush@h/d?connections=0",
        "postgresql://u:hush@h/d?sslmode=disable&sslmode=require",
        "postgresql://u:hush@h/d?sslrootcert=/nowhere.pem",
    ],
)
def test_a_malformed_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Database(url)
    assert "hush" not in str(refused.value)
    assert "hush" not in repr(parse_address("postgresql://u:hush@h/d"))


def test_a_far_server_is_verified_unless_the_url_says_otherwise() -> None:
    assert parse_address("postgresql://u:p@db.example/d").ssl_mode == "verify-full"
    assert parse_address("postgresql://u:p@127.0.0.1/d").ssl_mode == "disable"
    assert parse_address("postgresql://u:p@/d?host=/cloudsql/a:b:c").socket_path == "/cloudsql/a:b:c/.s.PGSQL.5432"
    assert parse_address("postgresql://u%40x:p%2F@h/d?connections=9").password == "p/"


def test_the_driver_is_still_written_as_we_rely_on() -> None:
    """We send our own messages and override its handlers: another version must be read first."""
    root = Path(__file__).parents[2]
    assert f"pg8000=={pg8000.core.ver}" in (root / "requirements.txt").read_text()
    assert pg8000.core.ver == "1.31.6"
    for handler in ("ROW_DESCRIPTION", "NO_DATA", "DATA_ROW", "COMMAND_COMPLETE", "READY_FOR_QUERY", "ERROR_RESPONSE"):
        assert callable(getattr(pg8000.core.CoreConnection, f"handle_{handler}"))
    assert vars(pg8000.core.Context("x")).keys() == {
        "statement", "rows", "row_count", "columns", "stream", "input_funcs", "error",
    }  # fmt: skip


def kill_others(url: str) -> None:
    wire = connect(url)
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    wire.script(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")
    wire.hang_up()


def test_databases_of_tests_do_not_see_each_other(databases: Databases) -> None:
    first, second = databases.create(migrated=False), databases.create(migrated=False)
    wire = connect(first)
    wire.script("CREATE TABLE only_here ()")
    wire.hang_up()
    other = Database(second)
    assert other.run(query("SELECT to_regclass('only_here')::text AS found")) == [{"found": None}]
    other.close()
    databases.drop(first)
    databases.drop(second)
