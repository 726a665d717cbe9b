"""The sweep as a slow duty of the tick: ask the services side to compare vendors and tables, and keep what it found."""

from __future__ import annotations

from uuid import uuid4

from shared.api.services import Sweep
from shared.budget import Budget
from shared.errors import RemoteError
from shared.pool import store
from shared.pool.context import Context

LEASE = "sweep"
LEAST_SECONDS = 5.0
LONGEST_SECONDS = 30.0


def sweep_if_due(context: Context, warnings: list[str], *, budget: Budget) -> None:
    """Sweep once an interval, in whatever time the rest of the tick left over; the lease is the interval.

    A failed one is tried again after the next interval: nothing hangs on a single sweep.
    """
    if budget.left() < LEAST_SECONDS or context.settings.sweep_interval_seconds == 0:
        return
    if not store.take_lease(context.db, LEASE, uuid4(), seconds=context.settings.sweep_interval_seconds):
        return
    try:
        found = context.services.sweep(Sweep(deadline_seconds=min(budget.left(), LONGEST_SECONDS)))
    except RemoteError as error:
        warnings.append(f"the sweep could not be done: {error.message}")
        return
    store.record_sweep(context.db, found.model_dump(mode="json", by_alias=True))
    confirmed = sum(1 for finding in found.findings if finding.confirmed)
    if confirmed:
        warnings.append(f"the sweep has {confirmed} confirmed findings: see /api/pool/sweeps")
