"""Find out what became of an introduction that did not end well, and move the instance accordingly (P2, P3, P4)."""

from __future__ import annotations

from uuid import UUID

from shared.api.services import Introduction, Settled
from shared.errors import RemoteError
from shared.pool import store
from shared.pool.context import Context
from shared.pool.lifecycle import Status
from shared.pool.services_api import is_tombstone

DESTROYED = "the services side has destroyed it"


def settle(
    instance_id: str, generation: int, claim_id: UUID, context: Context, *, problem: RemoteError | None = None, actor: str
) -> Settled:
    """Close a generation at the services side and move the instance: never sent → idle, bound → completed, else set aside.

    Nobody gets an instance that may have seen another's instructions: whatever is doubtful is `tainted` and replaced.
    Repeats and races are harmless, since each move names status and generation. Raises RemoteError while the services side
    cannot be asked, or does not know the instance (another database, a wrong address): then nothing is moved.
    """
    try:
        settled = context.services.settle(instance_id, generation)
    except RemoteError as error:
        if not is_tombstone(error):
            raise
        store.set_aside(context.db, instance_id, generation, to=Status.TAINTED, reason=DESTROYED, claim_id=claim_id, actor=actor)
        return Settled(introduced=Introduction.MAYBE)
    if settled.introduced is Introduction.BOUND:
        store.complete_claim(context.db, instance_id, generation, settled, actor=actor)
    elif settled.introduced is Introduction.NEVER:
        reason = "a claim ended before it was introduced"
        store.set_aside(context.db, instance_id, generation, to=Status.IDLE, reason=reason, claim_id=claim_id, actor=actor)
    else:
        reason = f"an introduction may have reached it: {problem.message if problem else 'its claim was cut off'}"
        store.set_aside(context.db, instance_id, generation, to=Status.TAINTED, reason=reason, claim_id=claim_id, actor=actor)
    return settled
