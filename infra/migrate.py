"""Migrations: bring one side's schema up to date.

`infra/migrations/<side>/NNNN_what.sql` are applied forward only, in order, each in one transaction with its row in
`<side>.migrations`; a file names its tables with their schema, which exists by then. Give the URL of the server itself, not of
a pooler: the lock that keeps two runs apart (P47) belongs to a session. Expand first, contract in a later release: while a
deployment is under way the old code runs on the new schema.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pg8000.exceptions import DatabaseError, Error
from pg8000.native import identifier, literal
from pydantic import SecretStr

from infra.problem import Problem
from shared.db.address import parse_address, tls_context
from shared.db.failures import explain_connecting
from shared.db.wire import Limits, Wire

Side = Literal["pool", "services"]
FOLDER = Path(__file__).with_name("migrations")
_FILE = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_LOCK = 7_466_143_001
"""The advisory lock of every migration in a database; the number means nothing."""
_LONGEST_LOCK_WAIT = "10s"


class MigrationError(Problem):
    """The schema was left as the last finished migration made it; the message is one sentence that says why."""


@dataclass(frozen=True)
class Migration:
    """One file; its checksum does not depend on how lines end."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """What is compared with the row written when the file was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrate(side: Side, url: SecretStr | str, *, log: Callable[[str], object] = print, folder: Path | None = None) -> list[str]:
    """Apply what is missing of *side* and return the names applied; a second run applies nothing, a parallel one waits.

    A file that was changed after it was applied, or that comes before one already applied, is refused; what an older release
    does not know (a newer release migrated) is left alone. Raises MigrationError, or SettingsError for a wrong URL.
    """
    migrations = read_migrations(folder or FOLDER / side)
    wire = _connect(url)
    try:
        wire.script(f"SELECT pg_advisory_lock({_LOCK})")
        # A migration that waits for a lock makes everybody behind it wait too: better to give up and be run again.
        wire.script(f"SET lock_timeout = '{_LONGEST_LOCK_WAIT}'")
        _prepare(wire, side)
        missing = _missing(migrations, _applied(wire, side), side=side)
        for migration in missing:
            _apply(wire, side, migration)
            log(f"{side}: applied {migration.name}")
        return [migration.name for migration in missing]
    except DatabaseError as error:
        raise MigrationError(f"The migrations of {side} could not be looked up: {_words(error)}.") from error
    except (Error, OSError) as error:
        raise MigrationError(f"The connection to the database ended while {side} was migrated; run it again.") from error
    finally:
        wire.hang_up()


def read_migrations(folder: Path) -> list[Migration]:
    """Return the migrations of a folder in order; a file that is none, or a number used twice, is refused."""
    migrations: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        if not _FILE.fullmatch(path.name):
            raise MigrationError(f"{path.name} is no name for a migration; call it like 0001_first.sql.")
        if migrations and migrations[-1].name[:4] == path.name[:4]:
            raise MigrationError(f"{migrations[-1].name} and {path.name} have the same number.")
        migrations.append(Migration(path.name, path.read_text(encoding="utf-8")))
    return migrations


def _connect(url: SecretStr | str) -> Wire:
    address = parse_address(url)
    try:
        # No limit on a statement: building an index takes what it takes.
        wire = Wire(address, tls=tls_context(address), connect_seconds=10, limits=Limits(0, 0, 0), silence_seconds=None)
    except (Error, OSError) as error:
        raise explain_connecting(error) from None
    if wire.pooled:
        wire.hang_up()
        raise MigrationError("Migrations need the address of the server itself; this one is a pooler's.")
    return wire


def _prepare(wire: Wire, side: Side) -> None:
    """Make the schema and its list of migrations; only the first run needs the right to create a schema."""
    if not wire.script(f"SELECT 1 AS found FROM pg_namespace WHERE nspname = {literal(side)}"):
        wire.script(f"CREATE SCHEMA {identifier(side)}")
    wire.script(f"""
        CREATE TABLE IF NOT EXISTS {identifier(side)}.migrations (
            name       text PRIMARY KEY,
            checksum   text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        )""")


def _applied(wire: Wire, side: Side) -> dict[str, str]:
    rows = wire.script(f"SELECT name, checksum FROM {identifier(side)}.migrations ORDER BY name")
    return {row["name"]: row["checksum"] for row in rows}


def _missing(migrations: list[Migration], applied: dict[str, str], *, side: Side) -> list[Migration]:
    latest = max(applied, default="")
    missing = []
    for migration in migrations:
        checksum = applied.get(migration.name)
        if checksum is None and migration.name < latest:
            raise MigrationError(f"{side}: {migration.name} comes before {latest}, which is applied; give it a higher number.")
        if checksum is not None and checksum != migration.checksum:
            raise MigrationError(f"{side}: {migration.name} was changed after it was applied; undo that and add a new file.")
        if checksum is None:
            missing.append(migration)
    return missing


def _apply(wire: Wire, side: Side, migration: Migration) -> None:
    """Run the file and record it, both or neither."""
    try:
        wire.script("BEGIN")
        wire.script(migration.sql)
        if not wire.in_transaction:
            raise MigrationError(f"{side}: {migration.name} ended its transaction; a migration must not say COMMIT or ROLLBACK.")
        values = f"{literal(migration.name)}, {literal(migration.checksum)}"
        wire.script(f"INSERT INTO {identifier(side)}.migrations (name, checksum) VALUES ({values})")
        wire.script("COMMIT")
    except DatabaseError as error:
        raise MigrationError(f"{side}: {migration.name} failed and was undone: {_words(error)}.") from error


def _words(error: DatabaseError) -> str:
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return str(fields.get("M", "no reason given"))
