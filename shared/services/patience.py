"""How long a call may go on waiting for others, and how it stops waiting for one that is silent.

Vendors' own time limits are longer than what a status call may take. What is not waited for any longer goes on by itself, and
its answer is dropped: so only reads are asked for in this way.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from shared.budget import Budget
from shared.errors import AppError, RemoteUnavailableError

Result = TypeVar("Result")


class Patience(Budget):
    """What is left of the time that one call may take."""

    def part(self, share: float) -> Patience:
        """Return a patience of its own that ends after *share* of what is left."""
        return Patience(self.left() * share)

    def ask(self, call: Callable[[], Result], *, system: str, during: str) -> Result:
        """Return what the read *call* returns, or raise what it raises; RemoteUnavailableError when it takes too long."""
        answers: queue.SimpleQueue[Result | AppError] = queue.SimpleQueue()

        def work() -> None:
            outcome: Result | AppError = AppError(f"{system} could not be asked during {during}.")
            try:
                outcome = call()
            except AppError as error:
                outcome = error
            finally:
                answers.put(outcome)

        # A daemon: a process that ends does not wait for an answer that nobody wants.
        threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
        try:
            answer = answers.get(timeout=self.left())
        except queue.Empty:
            raise RemoteUnavailableError(system, during, "did not answer in time") from None
        if isinstance(answer, AppError):
            raise answer
        return answer
