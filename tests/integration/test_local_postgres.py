"""The launcher of the local PostgreSQL: it starts again on its data, ends with its starter, and says what is wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import child, postgres
from infra.local.postgres import PostgresError
from tests.databases import connect

ROOT = Path(__file__).parents[2]
STARTER = """
import sys, time
from pathlib import Path
from infra.local import postgres
server = postgres.start(Path(sys.argv[1]), durable=False, binaries=sys.argv[2] or None)
print(server.process.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="convos-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def binaries() -> str | None:
    return os.environ.get("POSTGRES_BINARIES")


def test_data_survives_a_new_start(folder: Path, binaries: str | None) -> None:
    with postgres.start(folder, durable=True, binaries=binaries) as server:
        wire = connect(server.url())
        wire.script("CREATE TABLE kept ()")
        assert wire.script("SHOW fsync") == [{"fsync": "on"}]
        wire.hang_up()
    with postgres.start(folder, durable=False, binaries=binaries) as server:
        wire = connect(server.url())
        assert wire.script("SELECT to_regclass('kept')::text AS found") == [{"found": "kept"}]
        assert wire.script("SHOW fsync") == [{"fsync": "off"}]
        wire.hang_up()


def test_the_server_ends_with_its_starter_and_the_next_start_just_works(folder: Path, binaries: str | None) -> None:
    command = [sys.executable, "-c", STARTER, str(folder), binaries or ""]
    starter = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    server_pid = int(starter.stdout.readline())
    starter.stdout.close()
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    with postgres.start(folder, durable=False, binaries=binaries) as server:
        assert server.process is not None
        assert not works_in(server_pid, folder)


def works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def test_a_folder_closed_to_others_is_no_obstacle_to_root(folder: Path, binaries: str | None) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    with postgres.start(closed / "data", durable=False, binaries=binaries) as server:
        connect(server.url()).hang_up()


def test_a_lock_file_of_a_stranger_is_no_obstacle(folder: Path, binaries: str | None) -> None:
    postgres.start(folder, durable=False, binaries=binaries).stop()
    (folder / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}\n1\n1\n\n\n\n")
    with postgres.start(folder, durable=False, binaries=binaries) as server:
        connect(server.url()).hang_up()


def test_a_folder_in_use_is_refused(folder: Path, binaries: str | None) -> None:
    with (
        postgres.start(folder, durable=False, binaries=binaries),
        pytest.raises(PostgresError, match=r"is in use by another server, process \d+"),
    ):
        postgres.start(folder, durable=False, binaries=binaries, patience_seconds=0.2)


def test_a_folder_that_is_no_database_is_left_alone(folder: Path, binaries: str | None) -> None:
    (folder / "thesis.txt").write_text("mine")
    owner = child.unprivileged()
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)
    with pytest.raises(PostgresError, match="something that is not a database"):
        postgres.start(folder, durable=False, binaries=binaries)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_a_damaged_database_is_said_to_be_so(folder: Path, binaries: str | None) -> None:
    postgres.start(folder, durable=False, binaries=binaries).stop()
    (folder / "global" / "pg_control").unlink()
    with pytest.raises(PostgresError, match="is damaged"):
        postgres.start(folder, durable=False, binaries=binaries)


def test_a_database_of_another_version_is_refused(folder: Path, binaries: str | None) -> None:
    postgres.start(folder, durable=False, binaries=binaries).stop()
    (folder / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresError, match=r"written by PostgreSQL 9 and the programs are \d+"):
        postgres.start(folder, durable=False, binaries=binaries)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_folder_of_another_user_is_refused(folder: Path, binaries: str | None) -> None:
    postgres.start(folder, durable=False, binaries=binaries).stop()
    os.chown(folder, 12345, 12345)
    with pytest.raises(PostgresError, match="belongs to user 12345, but the server would run as nobody"):
        postgres.start(folder, durable=False, binaries=binaries)


def test_missing_programs_are_named(tmp_path: Path) -> None:
    with pytest.raises(PostgresError, match="no postgres and initdb in"):
        postgres.start(tmp_path / "data", durable=False, binaries=tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(folder: Path, binaries: str | None) -> None:
    (folder / "data").write_text("")
    with pytest.raises(PostgresError, match="cannot be used: File exists"):
        postgres.start(folder / "data", durable=False, binaries=binaries)


def test_stopping_twice_is_quiet_and_a_restart_keeps_the_address(folder: Path, binaries: str | None) -> None:
    server = postgres.start(folder, durable=False, binaries=binaries)
    before = server.url()
    server.restart(how=signal.SIGQUIT)
    assert server.url() == before
    connect(before).hang_up()
    started = time.monotonic()
    server.stop()
    server.stop()
    assert time.monotonic() - started < 5
