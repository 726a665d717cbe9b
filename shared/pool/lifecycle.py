"""The life of an instance as data: its statuses and the moves that are legal. Pure; no database, no clock.

The SQL check of `pool.instances.status`, the diagram in ARCHITECTURE.md and the property tests are compared with these
tables: a new status is added here, in a migration and in that diagram.
"""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where an instance stands."""

    STARTING = "starting"
    """Being built or booted; nobody's yet."""
    IDLE = "idle"
    """Warm and never introduced to anybody: it can be claimed."""
    CLAIMING = "claiming"
    """Taken by a claim that is under way, under a lease."""
    CLAIMED = "claimed"
    """In a conversation."""
    PENDING_ACCEPTANCE = "pending_acceptance"
    """Introduced, and waiting for the inviter's approval."""
    SLEEPING = "sleeping"
    """Put to sleep by the host before anybody claimed it; a request wakes it."""
    TAINTED = "tainted"
    """Set aside: somebody's instructions may have reached it."""
    CRASHED = "crashed"
    """Was claimed; its machine failed."""
    DEAD = "dead"
    """Unclaimed and failed; to be destroyed."""
    DESTROYING = "destroying"
    """Its end is asked for and not yet confirmed; the row goes with the confirmation."""


S = Status

MOVES: dict[Status, frozenset[Status]] = {
    S.STARTING: frozenset({S.IDLE, S.SLEEPING, S.DEAD, S.DESTROYING}),
    S.IDLE: frozenset({S.STARTING, S.CLAIMING, S.SLEEPING, S.DEAD, S.DESTROYING}),
    S.CLAIMING: frozenset({S.IDLE, S.CLAIMED, S.PENDING_ACCEPTANCE, S.TAINTED, S.DESTROYING}),
    S.CLAIMED: frozenset({S.CRASHED, S.DESTROYING}),
    S.PENDING_ACCEPTANCE: frozenset({S.CLAIMED, S.TAINTED, S.CRASHED, S.DESTROYING}),
    S.SLEEPING: frozenset({S.STARTING, S.IDLE, S.DEAD, S.DESTROYING}),
    S.TAINTED: frozenset({S.DESTROYING}),
    S.CRASHED: frozenset({S.CLAIMED, S.TAINTED, S.DESTROYING}),
    S.DEAD: frozenset({S.DESTROYING}),
    S.DESTROYING: frozenset(),
}
"""From each status, where it may go. Out of `destroying` there is no way but the confirmed end."""

AVAILABLE = frozenset({S.STARTING, S.IDLE, S.SLEEPING})
"""Nobody's, and fit to become somebody's: what the target is about."""

UNCLAIMED = AVAILABLE | {S.TAINTED, S.DEAD}
"""What a drain may take."""

CLAIMED = frozenset({S.CLAIMED, S.PENDING_ACCEPTANCE})
"""Somebody's, and as far as we know alive: an observation may mark it, never destroy it."""

UNUSABLE = frozenset({S.TAINTED, S.DEAD})
"""To be destroyed and replaced."""


def is_legal(before: Status, after: Status) -> bool:
    """Whether an instance may go from *before* to *after*."""
    return after in MOVES[before]
