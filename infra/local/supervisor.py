"""Starts again what ended by itself: a process of the local stack, or its Postgres.

As in production, where the platform replaces a function's container, so that one may kill anything and watch it return.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from infra.local.postgres import PostgresError, Server
from infra.local.processes import Processes
from infra.problem import Problem

PAUSES_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Before each start in a row; when the last of them was in vain too, the stack gives up."""
STEADY_SECONDS = 30.0
"""What ran for so long begins with the first pause again."""


class Kept(Protocol):
    """Something that is to run for as long as the stack does."""

    name: str

    def how_it_ended(self) -> str | None:
        """Return how it ended, in words, or None while it runs."""

    def start_again(self) -> None:
        """Start it, at the same address; PostgresError when that failed, which counts as one more end."""

    def is_ready(self) -> bool:
        """Whether it answers."""

    def last_words(self) -> str:
        """Return the last lines that it wrote."""


class KeptProcess:
    """One of the stack's processes."""

    def __init__(self, processes: Processes, name: str) -> None:
        self._processes = processes
        self._process = name
        self.name = f"process {name}"

    def how_it_ended(self) -> str | None:
        """Return its signal or status in words."""
        status = self._processes.status(self._process)
        return None if status is None else in_words(status)

    def start_again(self) -> None:
        """Start it with the settings that it had."""
        self._processes.start_again(self._process)

    def is_ready(self) -> bool:
        """Whether it answers HTTP."""
        return self._processes.is_ready(self._process)

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._processes.tail(self._process)


class KeptPostgres:
    """The stack's own database server."""

    name = "Postgres"

    def __init__(self, server: Server) -> None:
        self._server = server

    def how_it_ended(self) -> str | None:
        """Return its signal or status in words; a server that waits for its sessions to end is told to end them."""
        if self._server.process is None:
            return "it did not start"
        status = self._server.process.poll()
        if status is None:
            self._server.hasten_stop()
        return None if status is None else in_words(status)

    def start_again(self) -> None:
        """Start it with the address and password that it had; the functions connect anew by themselves."""
        self._server.restart()

    def is_ready(self) -> bool:
        """It was waited for when it was started."""
        return True

    def last_words(self) -> str:
        """Return the end of the server's log."""
        return self._server.last_words()


@dataclass
class _Record:
    kept: Kept
    started_at: float
    starts: int = 0
    due_at: float | None = None
    awaited: bool = False


class Supervisor:
    """Looks after *kept*; call `look` from the main thread, about twice a second, so that children outlive no thread."""

    def __init__(self, kept: Iterable[Kept], *, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._records = [_Record(one, clock()) for one in kept]

    def look(self) -> None:
        """Start again what has ended, after a pause that grows; Problem with its last words when that is of no use."""
        for record in self._records:
            if record.due_at is not None:
                self._start_when_due(record, record.due_at)
            elif (how := record.kept.how_it_ended()) is not None:
                self._plan_start(record, how)
            elif record.awaited and record.kept.is_ready():
                record.awaited = False
                self._say(f"{_capital(record.kept.name)} runs again.")

    def _plan_start(self, record: _Record, how: str) -> None:
        if self._clock() - record.started_at >= STEADY_SECONDS:
            record.starts = 0
        if record.starts == len(PAUSES_SECONDS):
            raise Problem(
                f"{_capital(record.kept.name)} ended again and again ({how}), so the stack stops; its last words:\n"
                f"{record.kept.last_words()}"
            )
        pause = PAUSES_SECONDS[record.starts]
        self._say(f"{_capital(record.kept.name)} ended by itself ({how}); starting it again …")
        record.due_at = self._clock() + pause
        self._start_when_due(record, record.due_at)

    def _start_when_due(self, record: _Record, due_at: float) -> None:
        if self._clock() < due_at:
            return
        record.due_at, record.awaited = None, True
        record.starts += 1
        try:
            record.kept.start_again()
        except PostgresError as error:
            self._say(str(error))
        record.started_at = self._clock()


def in_words(status: int) -> str:
    """Say a process's exit status: the signal that killed it, or the number."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def _capital(name: str) -> str:
    return f"The {name}" if name.startswith("process ") else name
