"""Migrations: one command, forward only, safe to repeat and to run twice at once (P46, P47)."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.migrate import _LOCK as LOCK
from infra.migrate import FOLDER, MigrationError, Side, migrate, read_migrations
from shared.db import Database, Query
from tests.databases import Databases, connect
from tests.schema import describe, foreign_keys_across

BOTH: list[Side] = ["pool", "services"]


def quiet(_: str) -> None:
    """Swallow the progress lines."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_things.sql").write_text("CREATE TABLE pool.things (id int PRIMARY KEY);")
    (tmp_path / "0002_colour.sql").write_text(
        "ALTER TABLE pool.things ADD COLUMN colour text;\nCREATE INDEX ON pool.things (colour);"
    )
    return tmp_path


def tables(url: str) -> list[str]:
    return [line.split(" ")[0] for line in describe(url, "pool")["tables"]]


def test_what_is_missing_is_applied_in_order_and_only_once(empty_database_url: str, folder: Path) -> None:
    lines: list[str] = []
    assert migrate("pool", empty_database_url, log=lines.append, folder=folder) == ["0001_things.sql", "0002_colour.sql"]
    assert lines == ["pool: applied 0001_things.sql", "pool: applied 0002_colour.sql"]
    assert migrate("pool", empty_database_url, log=quiet, folder=folder) == []
    (folder / "0003_size.sql").write_text("ALTER TABLE pool.things ADD COLUMN size int;")
    assert migrate("pool", empty_database_url, log=quiet, folder=folder) == ["0003_size.sql"]


@pytest.mark.parametrize("side", BOTH)
def test_a_fresh_and_an_upgraded_schema_are_identical(side: Side, databases: Databases, tmp_path: Path) -> None:
    """P46, from every release that ever was."""
    fresh = databases.create(migrated=False)
    names = migrate(side, fresh, log=quiet)
    assert names
    for length in range(len(names)):
        older = tmp_path / str(length)
        older.mkdir()
        for name in names[:length]:
            shutil.copy(FOLDER / side / name, older)
        upgraded = databases.create(migrated=False)
        assert migrate(side, upgraded, log=quiet, folder=older) == names[:length]
        assert migrate(side, upgraded, log=quiet) == names[length:]
        assert describe(upgraded, side) == describe(fresh, side)
        databases.drop(upgraded)
    databases.drop(fresh)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE pool.things ADD COLUMN extra int",
        "ALTER TABLE pool.things ALTER colour SET DEFAULT 'red'",
        "ALTER TABLE pool.things ALTER colour SET NOT NULL",
        "ALTER TABLE pool.things ADD CONSTRAINT positive CHECK (id > 0)",
        "DROP INDEX pool.things_colour_idx",
        "ALTER TABLE pool.things SET (fillfactor = 70)",
    ],
)
def test_the_comparison_of_schemas_sees_a_difference(change: str, empty_database_url: str, folder: Path) -> None:
    migrate("pool", empty_database_url, log=quiet, folder=folder)
    before = describe(empty_database_url, "pool")
    wire = connect(empty_database_url)
    wire.script(change)
    wire.hang_up()
    assert describe(empty_database_url, "pool") != before


def test_two_runs_at_once_apply_each_file_once(empty_database_url: str, folder: Path) -> None:
    """P47."""
    (folder / "0003_slow.sql").write_text("SELECT pg_sleep(0.1); CREATE TABLE pool.once ();")
    with ThreadPoolExecutor(4) as threads:
        runs = [threads.submit(migrate, "pool", empty_database_url, log=quiet, folder=folder) for _ in range(4)]
    assert sorted(len(run.result()) for run in runs) == [0, 0, 0, 3]


def test_a_run_waits_for_another_ones_lock(empty_database_url: str, folder: Path) -> None:
    """P47."""
    other = connect(empty_database_url)
    other.script(f"SELECT pg_advisory_lock({LOCK})")
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(migrate, "pool", empty_database_url, log=quiet, folder=folder)
        time.sleep(0.1)
        assert not run.done()
        other.hang_up()
        assert len(run.result(5)) == 2


def test_both_sides_fit_into_one_database_and_share_no_foreign_key(empty_database_url: str) -> None:
    for side in BOTH:
        assert migrate(side, empty_database_url, log=quiet)
    assert foreign_keys_across(empty_database_url) == []


def test_a_foreign_key_across_schemas_would_be_found(empty_database_url: str) -> None:
    wire = connect(empty_database_url)
    wire.script("CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (id int PRIMARY KEY)")
    wire.script("CREATE TABLE b.t (id int CONSTRAINT across REFERENCES a.t)")
    wire.hang_up()
    assert foreign_keys_across(empty_database_url) == ["across"]


def test_the_sides_may_live_on_servers_of_their_own(databases: Databases) -> None:
    for side in BOTH:
        alone = databases.create(migrated=False)
        assert migrate(side, alone, log=quiet)
        databases.drop(alone)


def test_a_file_changed_after_it_was_applied_is_refused(empty_database_url: str, folder: Path) -> None:
    migrate("pool", empty_database_url, log=quiet, folder=folder)
    (folder / "0001_things.sql").write_text("CREATE TABLE pool.things (id bigint PRIMARY KEY);")
    (folder / "0003_size.sql").write_text("CREATE TABLE pool.never ();")
    with pytest.raises(MigrationError, match=r"0001_things\.sql was changed after it was applied"):
        migrate("pool", empty_database_url, log=quiet, folder=folder)
    assert "never" not in tables(empty_database_url)


def test_line_endings_are_no_change(empty_database_url: str, folder: Path) -> None:
    migrate("pool", empty_database_url, log=quiet, folder=folder)
    path = folder / "0002_colour.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate("pool", empty_database_url, log=quiet, folder=folder) == []


def test_a_file_that_comes_before_an_applied_one_is_refused(empty_database_url: str, folder: Path) -> None:
    migrate("pool", empty_database_url, log=quiet, folder=folder)
    (folder / "0000_late.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=r"0000_late\.sql comes before 0002_colour\.sql"):
        migrate("pool", empty_database_url, log=quiet, folder=folder)


def test_an_older_release_leaves_a_newer_schema_alone(empty_database_url: str, folder: Path) -> None:
    migrate("pool", empty_database_url, log=quiet, folder=folder)
    (folder / "0002_colour.sql").unlink()
    assert migrate("pool", empty_database_url, log=quiet, folder=folder) == []


def test_a_failing_file_is_undone_as_a_whole_and_what_came_before_stays(empty_database_url: str, folder: Path) -> None:
    (folder / "0003_wrong.sql").write_text("CREATE TABLE pool.half ();\nALTER TABLE pool.nowhere ADD COLUMN a int;")
    with pytest.raises(MigrationError, match=r'0003_wrong\.sql failed and was undone: relation "pool\.nowhere" does not exist'):
        migrate("pool", empty_database_url, log=quiet, folder=folder)
    assert tables(empty_database_url) == ["migrations", "things"]
    (folder / "0003_wrong.sql").write_text("CREATE TABLE pool.half ();")
    assert migrate("pool", empty_database_url, log=quiet, folder=folder) == ["0003_wrong.sql"]


def test_a_file_that_ends_its_own_transaction_is_refused(empty_database_url: str, folder: Path) -> None:
    (folder / "0003_wrong.sql").write_text("COMMIT;")
    with pytest.raises(MigrationError, match="must not say COMMIT"):
        migrate("pool", empty_database_url, log=quiet, folder=folder)


@pytest.mark.parametrize(("name", "complaint"), [("3_short.sql", "is no name"), ("0002_again.sql", "have the same number")])
def test_a_misnamed_file_is_refused(name: str, complaint: str, folder: Path) -> None:
    (folder / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError, match=complaint):
        read_migrations(folder)


LINKS_AND_TIMES = {
    "at",
    "id", "instance_id", "claim_id", "name", "created_at", "finished_at", "updated_at", "version", "generation", "status",
    "holder", "expires_at", "worker", "worker_expires_at", "kind", "problem", "reason", "only_row", "failures", "next_try_at",
    "began_at", "ended_at", "image", "checksum", "applied_at",
}  # fmt: skip
"""What several tables may each have for themselves: keys, times, a status, the words for it, and leases."""


@pytest.mark.parametrize("side", BOTH)
def test_no_fact_stands_in_two_tables(database: Database, side: Side) -> None:
    """P49: whatever is more than a link, a time or a row's own state has one owner, so nothing can drift apart."""
    repeated = Query.parse(
        "repeated",
        "SELECT column_name::text AS name FROM information_schema.columns WHERE table_schema = :side "
        "GROUP BY column_name HAVING count(*) > 1;",
    )
    assert {row["name"] for row in database.run(repeated, side=side)} <= LINKS_AND_TIMES
