"""A vendor's rate limit, for simulators that are asked to have one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Throttle:
    """At most *limit* calls in any window of *window_seconds*, counted from the window's first call."""

    def __init__(self, limit: int, *, window_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self.window_seconds = window_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._began = float("-inf")
        self._used = 0

    def wait_seconds(self) -> float:
        """Count one call, and return 0, or how long the caller has to wait."""
        with self._lock:
            now = self._clock()
            if now - self._began >= self.window_seconds:
                self._began, self._used = now, 0
            if self._used >= self.limit:
                return self._began + self.window_seconds - now
            self._used += 1
            return 0.0
