"""What every test may ask for: a real Postgres, a database of its own, and tools that a bare machine may lack."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import postgres
from shared.db import Database
from tests.databases import Databases
from tests.requirement import missing


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """One server a run (and a worker): without fsync, on a folder that is removed."""
    folder = Path(tempfile.mkdtemp(prefix="convos-"))
    try:
        with postgres.start(folder, durable=False, binaries=os.environ.get("POSTGRES_BINARIES")) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def databases(postgres_server: postgres.Server) -> Databases:
    """Where a test that needs several databases makes them; it drops them itself."""
    return Databases(postgres_server)


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A database of this test's own, with both schemas migrated."""
    url = databases.create()
    yield url
    databases.drop(url)


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A database of this test's own, with nothing in it."""
    url = databases.create(migrated=False)
    yield url
    databases.drop(url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A `Database` on this test's own, migrated database."""
    opened = Database(database_url, max_connections=4)
    yield opened
    opened.close()


@pytest.fixture
def require_tool() -> Callable[[str], str]:
    """Look up a program that a bare machine may lack; without it the test is skipped as "needs <name>".

    A name in the environment variable REQUIRE (comma-separated) fails instead.
    """

    def look_up(name: str) -> str:
        found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]))
        return found or missing(name)

    return look_up
