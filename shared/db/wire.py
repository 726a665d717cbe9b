"""One connection that needs one round trip a statement, on its own server process or behind a transaction-mode pooler.

The driver's `run` with parameters takes three round trips, which a pooler may spread over different server processes, so that
another client's statement runs. Here everything that belongs to a statement leaves in one write that ends with one Sync:

- own process: Parse and Describe under a name at the first use, later only Bind and Execute;
- shared process: always unnamed, and with the time limits before it, since a setting would leak to other clients.

It builds on how pg8000 1.31 is written inside (its message handlers and its `Context`); `test_db.py` checks that they are
still there. Messages: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import itertools
import secrets
import select
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

from pg8000.core import Context, CoreConnection
from pg8000.exceptions import DatabaseError

from shared.db.address import Address, open_socket
from shared.db.queries import Query, load_queries
from shared.db.values import READERS, encode

QUERIES = load_queries(__file__)
Row = dict[str, Any]
_LENGTH = Struct("!i")
_COUNT = Struct("!H")
_EXECUTE = b"E" + _LENGTH.pack(9) + b"\0" + _LENGTH.pack(0)
_DESCRIBE_PORTAL = b"D" + _LENGTH.pack(6) + b"P\0"
_SYNC = b"S" + _LENGTH.pack(4)
_TERMINATE = b"X" + _LENGTH.pack(4)
_MOST_NAMED_STATEMENTS = 500
STALE_PLAN = {"0A000", "26000"}
"""A named statement whose result type a migration changed, or that is gone: it did nothing and can be prepared again."""


class Rows(list[Row]):
    """The rows of an answer, by column name; *row_count* also counts rows changed without RETURNING."""

    row_count: int = 0


@dataclass(frozen=True)
class Limits:
    """How long the server may work, wait for a lock, and hold an idle transaction, in seconds."""

    statement: float
    lock: float
    idle: float

    def parameters(self) -> dict[str, str]:
        """The same as the server's settings are written."""
        return {name: f"{int(getattr(self, name) * 1000)}ms" for name in ("statement", "lock", "idle")}


@dataclass
class _Prepared:
    """What a connection remembers of a named statement."""

    name: bytes
    columns: list[dict[str, Any]] | None
    input_funcs: list[Any]


class _Answer(Context):  # type: ignore[misc]
    """What is being received: the rows of the last statement, after *skip* others sent with it."""

    def __init__(self, sql: str, *, skip: int = 0, known: _Prepared | None = None) -> None:
        super().__init__(sql, columns=known.columns if known else None, input_funcs=known.input_funcs if known else None)
        self.skip = skip
        self.described = False


class Wire(CoreConnection):  # type: ignore[misc]
    """A connection, used by one thread at a time. `broken` means its state is unknown: hang up."""

    def __init__(
        self,
        address: Address,
        *,
        tls: ssl.SSLContext | None,
        connect_seconds: float,
        limits: Limits,
        silence_seconds: float | None,
    ) -> None:
        """Connect, sign in, and set the limits; raises the driver's errors and OSError.

        The server's own limit strikes first; *silence_seconds* is for one that no longer answers at all.
        """
        self.round_trips = 0
        self.statements = 0
        self.broken = True
        self._prepared: dict[str, _Prepared] = {}
        self._stale: list[bytes] = []
        self._names = (f"s{secrets.token_hex(4)}_{number}".encode() for number in itertools.count())
        self._limits = limits
        connected = open_socket(address, connect_seconds=connect_seconds, silence_seconds=silence_seconds)
        try:
            super().__init__(
                address.user,
                host=address.host,
                database=address.database,
                password=address.password or "",
                ssl_context=tls or False,
                application_name="convos-agents",
                startup_params={"client_encoding": "UTF8"},
                sock=connected,
            )
            self.pg_types.update(READERS)
            self.pooled = True
            self.pooled = self._greet(address.pooler)
            self._usock.settimeout(silence_seconds)
        except BaseException:
            connected.close()
            raise

    def _greet(self, pooler: str) -> bool:
        """Learn whether the server process is shared, and set the limits where it is not: one round trip."""
        told = _LENGTH.unpack_from(self._backend_key_data)[0] if self._backend_key_data else 0
        shared = {"transaction": "yes", "none": "no"}.get(pooler, "ask")
        rows = self.execute(QUERIES["greet"], {"process": told, "shared": shared, **self._limits.parameters()}, alone=True)
        return {"yes": True, "no": False}.get(shared, bool(rows[0]["process"] != told))

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, failed ones included, as the server said last."""
        return bool(self._transaction_status not in (None, b"I"))

    @property
    def in_failed_transaction(self) -> bool:
        """Whether the open transaction can only be rolled back."""
        return bool(self._transaction_status == b"E")

    def is_quiet(self) -> bool:
        """Whether an idle connection is still good, without asking: the server only speaks up to hang up."""
        poll = select.poll()
        poll.register(self._usock, select.POLLIN)
        return not self.broken and not poll.poll(0)

    def execute(self, query: Query, params: dict[str, object], *, begin: bool = False, alone: bool = False) -> Rows:
        """Run *query* in one round trip, opening a transaction first if *begin*.

        With *alone* nothing else is sent and no name is given. Raises the driver's DatabaseError when the server refused it:
        the connection is then usable. After anything else it is `broken`.
        """
        values = _ordered(query, params)
        before = [] if alone else self._before(begin)
        prologue = b"".join(_parse(b"", step.sql) + _bind(b"", values) + _EXECUTE for step, values in before)
        self.statements += 1
        if self.pooled or (query.sql not in self._prepared and len(self._prepared) >= _MOST_NAMED_STATEMENTS):
            message = prologue + _parse(b"", query.sql) + _bind(b"", values) + _DESCRIBE_PORTAL + _EXECUTE + _SYNC
            return self._exchange(message, _Answer(query.sql, skip=len(before)))
        return self._execute_named(query.sql, values, prologue=prologue, skip=len(before))

    def command(self, query: Query) -> None:
        """Run a statement without parameters or rows: COMMIT, ROLLBACK."""
        self.script(query.sql)

    def script(self, sql: str) -> Rows:
        """Run statements without parameters in one round trip; outside a transaction they share one."""
        text = sql.encode() + b"\0"
        self.statements += 1
        return self._exchange(b"Q" + _LENGTH.pack(len(text) + 4) + text, _Answer(sql))

    def hang_up(self) -> None:
        """Close, politely where possible; never raises."""
        try:
            if not self.broken:
                self._usock.settimeout(1)
                self._usock.sendall(_TERMINATE)
        except OSError:
            pass
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close our end without a word: also right in a forked child, whose parent goes on using the connection."""
        self.broken = True
        for end in (self._sock, self._usock):
            try:
                if end is not None:
                    end.close()
            except OSError:
                pass

    def _before(self, begin: bool) -> list[tuple[Query, list[bytes | None]]]:
        """What goes ahead of a statement in the same write."""
        steps: list[tuple[Query, list[bytes | None]]] = [(QUERIES["begin"], [])] if begin else []
        if self.pooled and not self.in_transaction:
            limits = QUERIES["limit_transaction"]
            steps.append((limits, _ordered(limits, dict(self._limits.parameters()))))
        return steps

    def _execute_named(self, sql: str, values: Sequence[bytes | None], *, prologue: bytes, skip: int) -> Rows:
        known = self._prepared.get(sql)
        if known is not None:
            return self._exchange(prologue + _bind(known.name, values) + _EXECUTE + _SYNC, _Answer(sql, skip=skip, known=known))
        name = next(self._names)
        closing = b"".join(_close(stale) for stale in self._stale)
        self._stale.clear()
        message = closing + prologue + _parse(name, sql) + _describe(name) + _bind(name, values) + _EXECUTE + _SYNC
        answer = _Answer(sql, skip=skip)
        try:
            return self._exchange(message, answer)
        finally:
            # Parsed and described, it stays at the server even if its first run failed.
            if answer.described:
                self._prepared[sql] = _Prepared(name, answer.columns, answer.input_funcs)

    def forget(self, query: Query) -> None:
        """Prepare *query* anew at its next use; the name it had is not used again."""
        known = self._prepared.pop(query.sql, None)
        if known is not None:
            self._stale.append(known.name)

    def _exchange(self, message: bytes, answer: _Answer) -> Rows:
        self.round_trips += 1
        self.broken = True
        self._usock.sendall(message)
        try:
            self.handle_messages(answer)
        except DatabaseError:
            # Raised only once the server is ready for the next statement.
            self.broken = False
            raise
        self.broken = False
        rows = Rows(answer.rows or ())
        rows.row_count = max(answer.row_count, 0)
        return rows

    # What pg8000 calls for each kind of message.

    def handle_ROW_DESCRIPTION(self, data: bytes, context: _Answer) -> None:  # noqa: N802
        """Learn names and readers of the columns."""
        super().handle_ROW_DESCRIPTION(data, context)
        context.described = True

    def handle_NO_DATA(self, msg: bytes, context: _Answer) -> None:  # noqa: N802
        """Learn that the statement returns no rows."""
        context.described = True

    def handle_DATA_ROW(self, data: bytes, context: _Answer) -> None:  # noqa: N802
        """Take one row as a dict."""
        if context.skip:
            return
        row: Row = {}
        at = 2
        for column, read in zip(context.columns, context.input_funcs, strict=True):
            (length,) = _LENGTH.unpack_from(data, at)
            at += 4
            if length < 0:
                row[column["name"]] = None
            else:
                row[column["name"]] = read(data[at : at + length].decode())
                at += length
        context.rows.append(row)

    def handle_COMMAND_COMPLETE(self, data: bytes, context: _Answer) -> None:  # noqa: N802
        """Count what the statement did; what was sent ahead of it does not count."""
        if context.skip:
            context.skip -= 1
        else:
            super().handle_COMMAND_COMPLETE(data, context)


def _ordered(query: Query, params: dict[str, object]) -> list[bytes | None]:
    if params.keys() != set(query.parameters):
        raise TypeError(f"The query {query.name} takes {', '.join(query.parameters) or 'nothing'}; got {', '.join(params)}.")
    return [encode(params[name]) for name in query.parameters]


def _message(code: bytes, body: bytes) -> bytes:
    return code + _LENGTH.pack(len(body) + 4) + body


def _parse(name: bytes, sql: str) -> bytes:
    return _message(b"P", name + b"\0" + sql.encode() + b"\0" + _COUNT.pack(0))


def _describe(name: bytes) -> bytes:
    return _message(b"D", b"S" + name + b"\0")


def _close(name: bytes) -> bytes:
    return _message(b"C", b"S" + name + b"\0")


def _bind(name: bytes, values: Sequence[bytes | None]) -> bytes:
    """All parameters as text, all results as text."""
    parts = [b"\0", name, b"\0", _COUNT.pack(0), _COUNT.pack(len(values))]
    for value in values:
        parts += [_LENGTH.pack(-1)] if value is None else [_LENGTH.pack(len(value)), value]
    parts.append(_COUNT.pack(0))
    return _message(b"B", b"".join(parts))
