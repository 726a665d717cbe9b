"""One change at a time in an environment of the host.

Railway's creation of a domain and its commits race with each other within one environment (`Failed to create service domain,
please try again`), and what a lost race leaves behind is documented nowhere. So whoever makes such a change waits for his turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from shared.errors import ConflictError
from shared.services.context import Context
from shared.services.hosting.base import Placement
from shared.services.store import turns

TURN_SECONDS = 75.0
"""Longer than one call; a killed process holds up the others of its environment until then, and a lost race is repeated."""
WAIT_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.2


@contextmanager
def alone(placement: Placement, context: Context) -> Iterator[None]:
    """Change the environment of *placement* beside nobody; ConflictError `environment_busy` when the wait gets too long."""
    name = f"environment:{placement.environment_id}"
    holder = uuid4()
    ends_at = time.monotonic() + WAIT_SECONDS
    while not turns.take(context.db, name, holder=holder, seconds=TURN_SECONDS):
        if time.monotonic() >= ends_at:
            raise ConflictError(
                "Other changes of the same environment are under way.", code="environment_busy", retry_after_seconds=2
            )
        time.sleep(LOOK_EVERY_SECONDS)
    try:
        yield
    finally:
        turns.end(context.db, name, holder=holder)
