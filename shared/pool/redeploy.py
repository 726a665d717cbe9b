"""Start a new deployment of an instance, and carry on with one whose answer was not waited for."""

from __future__ import annotations

from uuid import UUID

from shared import log
from shared.api.services import Redeploy
from shared.budget import Budget
from shared.errors import RemoteError, RemoteRefusedError
from shared.pool import store
from shared.pool.context import Context

LEAST_SECONDS = 2.0
MOST_AT_ONCE = 100
LONGEST_SECONDS = 900.0
"""After so long it is given up: one whose answer never arrives would restart its agent with every tick."""
LONGEST_CALL_SECONDS = 30.0
ASK_AGAIN = frozenset({"in_progress", "environment_busy"})
"""Refusals that only mean that somebody else is at work there now."""


def start_redeployment(operation_id: UUID, instance_id: str, image: str | None, context: Context, *, budget: Budget) -> bool:
    """Ask for a recorded redeployment; True when it is settled, for good or ill, False when it is to be asked for again.

    Asking twice starts a second deployment of the same image and variables: a restart more, and no other harm.
    """
    try:
        context.services.redeploy(instance_id, Redeploy(image=image), timeout_seconds=min(budget.left(), LONGEST_CALL_SECONDS))
    except RemoteRefusedError as error:
        if error.remote_code in ASK_AGAIN:
            return False
        store.finish_operation(context.db, operation_id, status="failed", problem=error.message)
        return True
    except RemoteError as error:
        log.warning("redeployment.failed", instance_id=instance_id, reason=error.message)
        return False
    store.finish_operation(context.db, operation_id, status="done", problem=None)
    return True


def carry_on_redeployments(context: Context, *, budget: Budget) -> int:
    """Ask again for redeployments that are not settled, or give them up; returns how many now are settled."""
    settled = 0
    for row in store.list_running_operations(context.db, kind="redeploy", most=MOST_AT_ONCE):
        if row["age_seconds"] > LONGEST_SECONDS:
            problem = f"it could not be confirmed within {LONGEST_SECONDS / 60:.0f} minutes; it may have happened"
            store.finish_operation(context.db, row["id"], status="failed", problem=problem)
            settled += 1
        elif budget.left() > LEAST_SECONDS:
            settled += start_redeployment(row["id"], row["instance_ids"][0], row["image"], context, budget=budget)
    return settled
