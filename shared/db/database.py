"""A database: a bounded set of connections, single statements, and transactions.

One object serves all threads of a process. Nothing happens before the first statement; after a fork the child starts anew. A
statement is one round trip, a transaction one more than its statements.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pg8000.exceptions import DatabaseError, Error
from pydantic import SecretStr

from shared.db.address import parse_address, tls_context
from shared.db.failures import LOST, explain, explain_connecting, lost, sql_state
from shared.db.queries import Query
from shared.db.wire import QUERIES, STALE_PLAN, Limits, Rows, Wire
from shared.errors import DatabaseUnavailableError, StatementError

LOCK_SECONDS = 10.0
IDLE_TRANSACTION_SECONDS = 60.0
SILENCE_SECONDS = 5.0
"""How much longer than a statement may take we wait for a server that says nothing."""


class Session(Protocol):
    """What a store needs: a database, for single statements, or an open transaction."""

    def run(self, query: Query, /, **params: object) -> Rows:
        """Run *query* and return its rows."""


class Database:
    """Connections to one database, opened when needed, at most *max_connections* (or the URL's `connections`).

    A thread that finds all of them busy waits up to *wait_seconds*. A connection that died while idle is replaced unnoticed
    (P48). Errors are those of `shared.errors`: DatabaseUnavailableError when Postgres could not be reached, was too slow or
    too busy; ConflictError for a unique index; StatementError for everything that only a change of code can help.
    """

    def __init__(
        self,
        url: SecretStr | str,
        *,
        max_connections: int = 4,
        connect_timeout_seconds: float = 5.0,
        statement_timeout_seconds: float = 30.0,
        wait_seconds: float = 10.0,
    ) -> None:
        self._address = parse_address(url)
        self._tls = tls_context(self._address)
        self.max_connections = self._address.connections or max_connections
        self._connect_seconds = connect_timeout_seconds
        self._wait_seconds = wait_seconds
        self._limits = Limits(statement_timeout_seconds, min(LOCK_SECONDS, statement_timeout_seconds), IDLE_TRANSACTION_SECONDS)
        self._idle: list[Wire] = []
        self._start_anew()
        _renew_after_fork(self)

    def run(self, query: Query, /, **params: object) -> Rows:
        """Run one statement as a transaction of its own. It is never repeated once it may have been received."""
        with self._connection() as wire:
            return _run(wire, query, params)

    def read(self, query: Query, /, **params: object) -> Rows:
        """Run a statement that changes nothing; when the connection dies it is asked once more, on a new one (P48)."""
        try:
            with self._connection() as wire:
                return _execute(wire, query, params)
        except LOST:
            self._hang_up_idle()
            return self.run(query, **params)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run the statements of the block together: kept when it ends, forgotten when it raises anything.

        BEGIN travels with the first statement; a block without statements costs nothing. Whoever catches a statement's error
        inside the block cannot go on in it: leaving it then raises, for nothing was kept.
        """
        with self._connection() as wire:
            try:
                yield _Transaction(wire)
                _commit(wire)
            except BaseException:
                _roll_back(wire)
                raise

    @property
    def round_trips(self) -> int:
        """How many times something was sent and waited for, without connecting; for benchmarks and tests."""
        with self._free:
            return self._past_round_trips + sum(wire.round_trips for wire in self._wires)

    @property
    def statements(self) -> int:
        """How many statements were run, COMMIT and ROLLBACK included; for benchmarks and tests."""
        with self._free:
            return self._past_statements + sum(wire.statements for wire in self._wires)

    def close(self) -> None:
        """Close what is idle now, and what is busy once it is free. The object may be used again."""
        with self._free:
            self._generation += 1
        self._hang_up_idle()

    def _start_anew(self) -> None:
        for wire in self._idle:
            wire.abandon()
        self._idle = []
        self._wires: set[Wire] = set()
        self._opened = 0
        self._generation = 0
        self._past_round_trips = 0
        self._past_statements = 0
        self._free = threading.Condition()

    @contextmanager
    def _connection(self) -> Iterator[Wire]:
        """Lend a connection; one whose state is unknown afterwards is hung up, which also rolls back."""
        wire = self._take()
        generation = self._generation
        try:
            yield wire
        finally:
            if wire.broken or wire.in_transaction or generation != self._generation:
                self._drop(wire)
            else:
                with self._free:
                    self._idle.append(wire)
                    self._free.notify()

    def _take(self) -> Wire:
        deadline = time.monotonic() + self._wait_seconds
        while True:
            with self._free:
                while not self._idle and self._opened >= self.max_connections:
                    if not self._free.wait(deadline - time.monotonic()):
                        raise DatabaseUnavailableError(
                            f"All {self.max_connections} connections to the database stayed busy; ask again shortly.",
                            code="database_busy",
                            retry_after_seconds=1,
                        )
                if not self._idle:
                    self._opened += 1
                    break
                wire = self._idle.pop()
            if wire.is_quiet():
                return wire
            self._drop(wire)
        return self._open()

    def _open(self) -> Wire:
        """Open a connection whose place is already counted; the place is given back when it fails."""
        try:
            wire = Wire(
                self._address,
                tls=self._tls,
                connect_seconds=self._connect_seconds,
                limits=self._limits,
                silence_seconds=self._limits.statement + SILENCE_SECONDS,
            )
        except BaseException as error:
            with self._free:
                self._opened -= 1
                self._free.notify()
            if isinstance(error, Error | OSError):
                raise explain_connecting(error) from None
            raise
        with self._free:
            self._wires.add(wire)
        return wire

    def _drop(self, wire: Wire) -> None:
        wire.hang_up()
        with self._free:
            self._wires.discard(wire)
            self._past_round_trips += wire.round_trips
            self._past_statements += wire.statements
            self._opened -= 1
            self._free.notify()

    def _hang_up_idle(self) -> None:
        while True:
            with self._free:
                if not self._idle:
                    return
                wire = self._idle.pop()
            self._drop(wire)


class _Transaction:
    """The session that a transaction's block receives."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def run(self, query: Query, /, **params: object) -> Rows:
        """Run *query* inside the transaction, which its first statement opens."""
        return _run(self._wire, query, params, begin=not self._wire.in_transaction)


def _run(wire: Wire, query: Query, params: dict[str, object], *, begin: bool = False) -> Rows:
    try:
        return _execute(wire, query, params, begin=begin)
    except LOST:
        raise lost(query.name) from None


def _execute(wire: Wire, query: Query, params: dict[str, object], *, begin: bool = False) -> Rows:
    """Run *query*; a plan that a migration made stale did nothing and is prepared again once, outside a transaction."""
    try:
        try:
            return wire.execute(query, params, begin=begin)
        except DatabaseError as error:
            if sql_state(error) not in STALE_PLAN:
                raise
            wire.forget(query)
            if wire.in_transaction:
                raise
            return wire.execute(query, params)
    except DatabaseError as error:
        # Not `from error`: the server's detail quotes the row's values.
        raise explain(error, query=query.name) from None


def _commit(wire: Wire) -> None:
    if wire.in_failed_transaction:
        raise StatementError("A statement of this transaction failed earlier, so nothing of it was kept.")
    if wire.in_transaction:
        _command(wire, QUERIES["commit"])


def _roll_back(wire: Wire) -> None:
    """Roll back where the connection still answers; otherwise hanging up does it."""
    if wire.in_transaction and not wire.broken:
        try:
            _command(wire, QUERIES["rollback"])
        except (DatabaseUnavailableError, StatementError):
            wire.broken = True


def _command(wire: Wire, query: Query) -> None:
    try:
        wire.command(query)
    except DatabaseError as error:
        raise explain(error, query=query.name) from None
    except LOST:
        raise lost(query.name) from None


def _renew_after_fork(database: Database) -> None:
    """A child must not speak on its parent's connections: it forgets them before any of its threads runs."""
    reference = weakref.ref(database)

    def renew() -> None:
        forked = reference()
        if forked is not None:
            forked._start_anew()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=renew)
