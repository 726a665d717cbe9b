"""Give an instance a tool, take it back, and tell what the vendor holds: what the function of a plugin does.

The ledger is written before the vendor is asked, and again afterwards; one worker has a line at a time. A process killed
between the two leaves a line that the next call goes on with, told that its predecessor may have succeeded (P17).
"""

from __future__ import annotations

from uuid import UUID, uuid4

from shared import log
from shared.api.services import HeldResource, Inventory, Provision, Provisioned, Released
from shared.errors import AppError, ConflictError, NotConfiguredError, NotFoundError, NotYetError, RemoteRefusedError
from shared.services import names
from shared.services.context import ProvisionContext
from shared.services.models import LedgerRow, LedgerStatus, LedgerView, State
from shared.services.plugins.base import NAME_SPENT, Grant, Plugin
from shared.services.store import ledger
from shared.services.work import pause_after

_SECONDS_A_DAY = 86_400.0
_BUSY_SECONDS = 3.0
_MOST_UNDER_ONE_NAME = 5


def provision(instance_id: str, request: Provision, context: ProvisionContext) -> Provisioned:
    """Buy the tool for an instance, or return what it has; twice is once.

    409 `destroyed` when the instance is being destroyed, also when that was asked for during the purchase (then what was bought
    is released again); 409 `in_progress` while another call is buying it.
    """
    if request.config or request.user_config:
        raise NotYetError("A tool cannot be given a configuration yet.")
    known = ledger.view(context.db, instance_id, context.tool)
    if not known.known:
        raise NotFoundError("There is no instance of that id.")
    if not known.alive:
        raise _destroyed()
    if known.latest is not None and known.latest.status is LedgerStatus.ACTIVE:
        return _provisioned(known.latest, known.latest.resource_id or "")
    if known.latest is not None and known.latest.status is LedgerStatus.RELEASING:
        raise _in_progress("It is being released; ask again when that has ended.")
    plugin = _configured(context)
    worker = uuid4()
    row, doubtful = _take(known, instance_id, context, plugin=plugin, worker=worker)
    return _buy(row, context, plugin=plugin, worker=worker, doubtful=doubtful)


def release(instance_id: str, resource: str, context: ProvisionContext) -> Released:
    """Release a resource of an instance, named by the vendor's id or, where none is known, by the name it was bought under.

    Once released, it answers the same again; 404 for what the instance never had. A failure is kept in the ledger and raised.
    """
    row = ledger.find_held(context.db, instance_id, context.tool, resource=resource)
    if row is None:
        raise NotFoundError("The instance never had that resource.")
    if row.status is LedgerStatus.RELEASED:
        return _released(row, resource)
    plugin = _configured(context)
    worker = uuid4()
    taken = ledger.begin_release(context.db, row, worker=worker, lease_seconds=context.settings.worker_lease_seconds)
    if taken is None:
        raise _in_progress("Another call is working on it.")
    _give_up(taken, context, plugin=plugin, worker=worker)
    return _released(taken, resource)


def inventory(context: ProvisionContext, *, probe: bool, cursor: str | None) -> Inventory:
    """Tell one page of what the vendor holds under our names; with *probe* only whether there is a key for it (no call)."""
    if probe:
        return Inventory(tool=context.tool, configured=context.plugin is not None)
    page = _configured(context).inventory(cursor)
    held = [HeldResource(resource_id=one.resource_id, name=one.name, created_at=one.created_at) for one in page.held]
    return Inventory(tool=context.tool, configured=True, held=held, next=page.next_cursor)


# --- buying


def _take(
    known: LedgerView, instance_id: str, context: ProvisionContext, *, plugin: Plugin, worker: UUID
) -> tuple[LedgerRow, bool]:
    """Become the worker of the line, written before anything is bought; tell whether an earlier call may have bought."""
    lease_seconds = context.settings.worker_lease_seconds
    if known.latest is not None and known.latest.status is LedgerStatus.INTENDED:
        resumed = ledger.resume(context.db, known.latest, worker=worker, lease_seconds=lease_seconds)
        if resumed is not None:
            return resumed, True
        raise _why_not(instance_id, context)
    attempt = known.last_attempt + 1
    name = names.make(context.settings.pool_environment, instance_id, attempt=attempt)
    for take in (ledger.take_from_stock, ledger.intend) if plugin.reusable else (ledger.intend,):
        row = take(context.db, instance_id, context.tool, name=name, attempt=attempt, worker=worker, lease_seconds=lease_seconds)
        if row is not None:
            return row, False
    raise _why_not(instance_id, context)


def _why_not(instance_id: str, context: ProvisionContext) -> ConflictError:
    alive = ledger.view(context.db, instance_id, context.tool).alive
    return _in_progress("Another call is working on it.") if alive else _destroyed()


def _buy(row: LedgerRow, context: ProvisionContext, *, plugin: Plugin, worker: UUID, doubtful: bool) -> Provisioned:
    try:
        row, grant = _ask_vendor(row, context, plugin=plugin, worker=worker, doubtful=doubtful)
    except AppError as error:
        _record_failure(row, error, context, worker=worker)
        raise
    instance_id = row.instance_id or ""
    state = ledger.activate(
        context.db,
        row,
        worker=worker,
        resource_id=grant.resource_id,
        variables=ledger.seal_variables(grant.variables, context.ring, instance_id=instance_id, tool=row.tool),
    )
    if state is None:
        _drop_unless_known(row, grant, context, plugin=plugin)
        raise _in_progress("Another call has taken over.")
    if state in (State.DESTROYING, State.DESTROYED):
        release(instance_id, grant.resource_id, context)
        raise _destroyed()
    log.info("tool.provisioned", instance_id=instance_id, tool=row.tool)
    return _provisioned(row, grant.resource_id)


def _ask_vendor(
    row: LedgerRow, context: ProvisionContext, *, plugin: Plugin, worker: UUID, doubtful: bool
) -> tuple[LedgerRow, Grant]:
    """Assign a resource of our stock, or buy one; a name that the vendor gives no more is followed by the next attempt's."""
    if row.resource_id is not None:
        try:
            return row, plugin.assign(row.resource_id, row.name)
        except RemoteRefusedError:
            if plugin.is_gone(row.resource_id) is not True:
                raise
        row = _forget_lost(row, context, worker=worker)
    try:
        return row, plugin.provision(row.name, attempt=row.attempt, doubtful=doubtful)
    except RemoteRefusedError as error:
        if error.code != NAME_SPENT:
            raise
    name = names.make(context.settings.pool_environment, row.instance_id or "", attempt=row.attempt + 1)
    renamed = ledger.next_attempt(context.db, row, name=name, worker=worker)
    if renamed is None:
        raise _in_progress("Another call has taken over.")
    return renamed, plugin.provision(renamed.name, attempt=renamed.attempt, doubtful=False)


def _forget_lost(row: LedgerRow, context: ProvisionContext, *, worker: UUID) -> LedgerRow:
    """Forget a resource of our stock that the vendor no longer has: it would fail one instance after the other."""
    forgotten = ledger.forget_resource(context.db, row, worker=worker)
    if forgotten is None:
        raise _in_progress("Another call has taken over.")
    log.warning("tool.lost_from_stock", instance_id=row.instance_id, tool=row.tool)
    return forgotten


def _drop_unless_known(row: LedgerRow, grant: Grant, context: ProvisionContext, *, plugin: Plugin) -> None:
    """Our lease ran out. Whoever took over has found what we bought, or looked before it was there: then nobody knows of it."""
    if ledger.is_known(context.db, row, resource_id=grant.resource_id):
        return
    try:
        plugin.release(grant.resource_id)
    except AppError as error:
        log.warning("tool.left_behind", instance_id=row.instance_id, tool=row.tool, reason=error.message)


# --- releasing


def _give_up(row: LedgerRow, context: ProvisionContext, *, plugin: Plugin, worker: UUID) -> None:
    """Have the resource end, at the vendor or in our stock, and record it; the line is ours."""
    try:
        if plugin.reusable:
            ended = _into_stock(row, context, plugin=plugin, worker=worker)
        else:
            _end_at_vendor(row, plugin)
            ended = ledger.finish_release(context.db, row, worker=worker)
    except AppError as error:
        _record_failure(row, error, context, worker=worker)
        raise
    if not ended:
        raise _in_progress("Another call has taken over.")
    log.info("tool.released", instance_id=row.instance_id, tool=row.tool)


def _into_stock(row: LedgerRow, context: ProvisionContext, *, plugin: Plugin, worker: UUID) -> bool:
    resource_id = row.resource_id or plugin.find(row.name)
    if resource_id is None:
        return ledger.finish_release(context.db, row, worker=worker)
    cooldown_seconds = context.settings.sms_cooldown_days * _SECONDS_A_DAY
    return ledger.put_in_stock(context.db, row, worker=worker, resource_id=resource_id, cooldown_seconds=cooldown_seconds)


def _end_at_vendor(row: LedgerRow, plugin: Plugin) -> None:
    """Release by id; where the answer with the id was lost, release whatever the vendor holds under the name."""
    if row.resource_id is not None:
        plugin.release(row.resource_id)
        return
    for _ in range(_MOST_UNDER_ONE_NAME):
        found = plugin.find(row.name)
        if found is None:
            return
        plugin.release(found)
    raise AppError("The vendor still holds something under the name of this purchase.")


def _record_failure(row: LedgerRow, error: AppError, context: ProvisionContext, *, worker: UUID) -> None:
    pause_seconds = pause_after(error, failures=row.failures)
    ledger.record_failure(context.db, row, worker=worker, reason=error.message, pause_seconds=pause_seconds)


# --- answers


def _configured(context: ProvisionContext) -> Plugin:
    if context.plugin is None:
        raise NotConfiguredError(f"The tool {context.tool} has no credentials here, so nothing was bought.")
    return context.plugin


def _provisioned(row: LedgerRow, resource_id: str) -> Provisioned:
    return Provisioned(tool=row.tool, resource_id=resource_id, status=LedgerStatus.ACTIVE)


def _released(row: LedgerRow, resource: str) -> Released:
    return Released(tool=row.tool, resource_id=row.resource_id or resource, status=LedgerStatus.RELEASED)


def _destroyed() -> ConflictError:
    return ConflictError("The instance is being destroyed or was destroyed.", code="destroyed")


def _in_progress(message: str) -> ConflictError:
    return ConflictError(message, code="in_progress", retry_after_seconds=_BUSY_SECONDS)
