"""Time as it is spent: a budget that runs out."""

from __future__ import annotations

import time


class Budget:
    """A number of seconds, from its making on."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left, never below zero."""
        return max(0.0, self._ends_at - time.monotonic())
