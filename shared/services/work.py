"""What recorded, resumable work shares: how long it may go on, and when it is tried again."""

from __future__ import annotations

from shared.budget import Budget
from shared.errors import AppError
from shared.services.models import Instance

LEAST_SECONDS_FOR_A_STEP = 2.0
LONGEST_PAUSE_SECONDS = 120.0
FIRST_PAUSE_SECONDS = 2.0
SOON_SECONDS = 1.0


class Deadline(Budget):
    """The time that one call may take. A step begun before it may end after it: vendor calls are not cut short by it."""

    def allows_another_step(self) -> bool:
        """Whether enough is left to begin something."""
        return self.left() >= LEAST_SECONDS_FOR_A_STEP


def pause_after(error: AppError, *, failures: int) -> float:
    """Return how long to wait after the failure that *failures* others preceded: growing, and never less than was asked for."""
    growing = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 10))
    return max(growing, error.retry_after_seconds or 0.0)


def retry_after(row: Instance) -> float:
    """Return when to ask again: soon while somebody works on it or nothing stands in the way, else when it has rested."""
    return SOON_SECONDS if row.busy else max(SOON_SECONDS, row.wait_seconds)
