"""Take an instance down: the tombstone first, then everything that was bought for it, then its machine (P25, P30).

The tombstone stands before anything is released, so nothing new is bought meanwhile; the row is called destroyed only when
every vendor and the host confirmed, or said that nothing is there.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from shared import log
from shared.api.services import Destroyed, Working
from shared.errors import AppError
from shared.services import names
from shared.services.context import Context
from shared.services.models import Instance, LedgerRow, LedgerStatus, State
from shared.services.store import instances, ledger
from shared.services.work import Deadline, pause_after, retry_after

TOOLS = "tools"
HOSTING = "hosting"
_FORGET_AT_ONCE = 20
_ABANDONED_SECONDS = 600.0
_CARRIED_ON_AT_ONCE = 5


def destroy(instance_id: str, context: Context, *, deadline_seconds: float) -> Destroyed | Working:
    """Take an instance down, or go on, as far as the deadline allows. Known or not, destroyed once or twice: gone is success."""
    deadline = Deadline(deadline_seconds)
    name = names.make(context.settings.pool_environment, instance_id)
    instances.bury(context.db, instance_id, name=name, step=TOOLS)
    worker = uuid4()
    lease_seconds = context.settings.worker_lease_seconds
    if instances.take_worker(context.db, instance_id, state=State.DESTROYING, worker=worker, lease_seconds=lease_seconds):
        go_on(instance_id, context, worker=worker, deadline=deadline)
    return _answer(instance_id, context)


def go_on(instance_id: str, context: Context, *, worker: UUID, deadline: Deadline) -> None:
    """Take down what there is, as the worker. A failure is recorded with its reason, and a later call tries again."""
    row = instances.read(context.db, instance_id)
    if row is None or not _begin(row, TOOLS, context, worker=worker):
        return
    try:
        finished = _take_down(row, context, worker=worker, deadline=deadline)
    except AppError as error:
        instances.record_failure(
            context.db,
            row.id,
            worker=worker,
            state=State.DESTROYING,
            problem=error.message,
            pause_seconds=pause_after(error, failures=row.failures),
        )
        log.warning("instance.destruction_failed", instance_id=row.id, code=error.code, reason=error.message)
        return
    if finished:
        log.info("instance.destroyed", instance_id=row.id)
        forget_old_tombstones(context)
    else:
        instances.give_back(context.db, row.id, worker=worker)


def carry_on_abandoned(context: Context, *, deadline_seconds: float) -> None:
    """Go on with a few destructions that nobody asks for any more.

    The pool side forgets an instance once its end is confirmed. A worker that was late may reopen a tombstone after that, and be
    killed before it has cleaned up: then nobody but the sweep knows of the row.
    """
    deadline = Deadline(deadline_seconds)
    for instance_id in instances.list_abandoned(context.db, age_seconds=_ABANDONED_SECONDS, count=_CARRIED_ON_AT_ONCE):
        if deadline.allows_another_step():
            destroy(instance_id, context, deadline_seconds=deadline.left())


def forget_old_tombstones(context: Context) -> None:
    """Delete a few tombstones that are older than 30 days; called at the end of a destruction, it keeps up with them."""
    instances.forget_buried(context.db, count=_FORGET_AT_ONCE)


def _begin(row: Instance, step: str, context: Context, *, worker: UUID) -> bool:
    lease_seconds = context.settings.worker_lease_seconds
    return instances.begin_destroying(context.db, row.id, worker=worker, step=step, lease_seconds=lease_seconds)


def _take_down(row: Instance, context: Context, *, worker: UUID, deadline: Deadline) -> bool:
    """Release the tools, then remove the machine, whether all of them could be released or not. False when it has not ended.

    One failure keeps nothing else from being tried; all of them are raised together.
    """
    failures: list[AppError] = []
    finished = False
    try:
        if _release_tools(row, context, worker=worker, deadline=deadline, failures=failures):
            finished = _remove(row.id, context, worker=worker)
    except AppError as error:
        failures.append(error)
    if failures:
        raise _all_of(failures)
    return finished


def _release_tools(row: Instance, context: Context, *, worker: UUID, deadline: Deadline, failures: list[AppError]) -> bool:
    """Release everything the ledger holds, and add what failed to *failures*. False when the time is over.

    What was tried longest ago comes first, so that a vendor that takes all the time keeps no other waiting. After a failure the
    machine does not wait for more time either: with a silent vendor there would never be any.
    """
    living = ledger.list_living(context.db, row.id)
    for held in living:
        if not _begin(row, TOOLS, context, worker=worker):
            return False
        try:
            context.tools.release(row.id, held.tool, resource=held.resource_id or held.name)
        except AppError as error:
            failures.append(error)
        if not deadline.allows_another_step():
            break
    return not living or bool(failures) or deadline.allows_another_step()


def _remove(instance_id: str, context: Context, *, worker: UUID) -> bool:
    """Take the machine down, and end; False when meanwhile more was built or bought, or it is no longer ours."""
    row = instances.read(context.db, instance_id)
    if row is None or not _begin(row, HOSTING, context, worker=worker):
        return False
    context.host.remove(row.name, row.placement)
    return instances.finish_destruction(context.db, row.id, worker=worker, removed=row.placement)


def _all_of(failures: list[AppError]) -> AppError:
    """One error for several: all their words, and the longest wait that was asked for."""
    waits = [error.retry_after_seconds for error in failures if error.retry_after_seconds]
    message = " ".join(dict.fromkeys(error.message for error in failures))
    return AppError(message, code=failures[0].code, retry_after_seconds=max(waits, default=None))


def _answer(instance_id: str, context: Context) -> Destroyed | Working:
    row = instances.read(context.db, instance_id)
    if row is None or row.state is State.DESTROYED:
        return Destroyed(instance_id=instance_id, released=_released(ledger.list_all(context.db, instance_id)), hosting=True)
    return Working(
        instance_id=instance_id,
        status=State.DESTROYING,
        step=row.step or TOOLS,
        retry_after_seconds=retry_after(row),
        problem=row.problem,
    )


def _released(lines: tuple[LedgerRow, ...]) -> dict[str, bool]:
    """Return each tool that the instance ever had, and whether nothing of it is left."""
    return {
        tool: all(line.status is LedgerStatus.RELEASED for line in lines if line.tool == tool)
        for tool in dict.fromkeys(line.tool for line in lines)
    }
