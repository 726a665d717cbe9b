"""Record the intent to build new instances: the one place where the population grows (promise 4)."""

from __future__ import annotations

import secrets

from shared.pool import store
from shared.pool.context import Context

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_ID_LENGTH = 10
MOST_AT_ONCE = 200


def replenish(context: Context, *, most: int = MOST_AT_ONCE, actor: str) -> list[str]:
    """Add rows in `starting` up to target, cap and concurrency, and return their ids; none while the pool is paused.

    Everybody who creates waits for the lock on the settings row and then counts anew, so two at once never create twice
    (P19). The rows are the intent: whoever is killed afterwards leaves them to the next tick.
    """
    candidates = [new_instance_id() for _ in range(min(most, MOST_AT_ONCE))]
    with context.db.transaction() as tx:
        limits = store.lock_limits(tx, context.settings)
        return [] if limits.paused else store.begin_creations(tx, limits, candidates, actor=actor)


def new_instance_id() -> str:
    """Return a fresh id, without characters that are mistaken for one another; it fits every vendor's names (P22)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
