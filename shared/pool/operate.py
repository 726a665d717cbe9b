"""What operators do to the pool: kill, drain, replenish, redeploy, protect, pause, change the target.

Work that may take long is recorded as an operation first, worked on here for a few seconds, and finished by the tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from shared.api.pool import (
    Drain,
    Operation,
    Pause,
    PoolSettings,
    PutSettings,
    RedeployRequest,
    Replenish,
    RunTick,
    TickResult,
)
from shared.budget import Budget
from shared.errors import ConflictError, IllegalMoveError, NotFoundError, PreconditionError, RequestError
from shared.pool import store
from shared.pool.context import Context
from shared.pool.lifecycle import Status
from shared.pool.redeploy import start_redeployment
from shared.pool.replenish import replenish as begin_creations
from shared.pool.work import work

PATIENCE_SECONDS = 10.0
"""How long a request works on an operation before the tick takes over."""

ALL = 100_000
ACTOR = "operator"


def kill(instance_id: str, context: Context, *, only_status: Status | None = None) -> Operation:
    """Destroy one instance, whatever its status; with *only_status*, only in that one.

    A repeated kill joins the one under way, and is quiet about an instance that is gone already (P30). A protected instance
    is refused (P11).
    """
    operation_id = uuid4()
    reason = "dismissed by an operator" if only_status is Status.CRASHED else "killed by an operator"
    if not store.begin_kill(context.db, instance_id, operation_id, reason=reason, only_status=only_status):
        operation_id = _explain_no_kill(instance_id, context, only_status)
    _work_on([instance_id], context)
    return read_operation(operation_id, context)


def _explain_no_kill(instance_id: str, context: Context, only_status: Status | None) -> UUID:
    """Return the operation that a repeated kill joins, or raise what stands against the kill."""
    rows = store.list_agents(context.db, most=1, only=instance_id)
    if rows and rows[0]["status"] != Status.DESTROYING:
        if rows[0]["protected"]:
            raise ConflictError("This instance is protected: end its protection first.", code="protected")
        expected = only_status or "another status"
        raise IllegalMoveError(f"This instance is {rows[0]['status']}; the change is for one that is {expected}.")
    earlier = store.find_kill(context.db, instance_id)
    if earlier is not None:
        return earlier
    if not rows and not store.was_destroyed(context.db, instance_id):
        raise NotFoundError("There is no such instance.")
    # The tick retired it: record that an operator asked as well, so that there is something to follow.
    operation_id = uuid4()
    store.begin_operation(context.db, operation_id, kind="kill", instance_ids=[instance_id])
    return operation_id


def drain(request: Drain, context: Context) -> Operation:
    """Destroy unclaimed instances, each taken only while it is unclaimed (P28), and pause first if asked to (P29)."""
    if request.pause:
        store.set_paused(context.db, paused=True, reason="paused by a drain")
    if request.min_idle is not None:
        store.put_settings(context.db, {"min_idle": request.min_idle}, version=None)
    operation_id = uuid4()
    taken = store.begin_drain(context.db, operation_id, most=ALL if request.all else request.count or 0)
    _work_on(taken, context)
    return read_operation(operation_id, context)


def replenish(request: Replenish, context: Context) -> Operation:
    """Fill the pool up to its target now. While the pool is paused, this is refused rather than ignored."""
    if store.read_limits(context.db, context.settings).paused:
        raise ConflictError("Creating is paused: resume first.", code="paused")
    created = begin_creations(context, most=request.count or ALL, actor=ACTOR)
    operation_id = uuid4()
    store.begin_operation(context.db, operation_id, kind="replenish", instance_ids=created)
    _work_on(created, context)
    return read_operation(operation_id, context)


def redeploy(instance_id: str, request: RedeployRequest, context: Context) -> Operation:
    """Start a new deployment of an instance with the desired image, or the one given (P40); nobody claims it meanwhile."""
    rows = store.list_agents(context.db, most=1, only=instance_id)
    if not rows:
        raise NotFoundError("There is no such instance.")
    if rows[0]["status"] in (Status.DESTROYING, Status.CLAIMING):
        raise IllegalMoveError(f"An instance that is {rows[0]['status']} cannot be redeployed.")
    if rows[0]["protected"]:
        raise ConflictError("This instance is protected: end its protection first.", code="protected")
    operation_id = uuid4()
    version = rows[0]["version"]
    if not store.begin_redeployment(context.db, operation_id, instance_id, version=version, image=request.image):
        raise IllegalMoveError("The instance changed meanwhile: look at it again.")
    start_redeployment(operation_id, instance_id, request.image, context, budget=Budget(PATIENCE_SECONDS))
    return read_operation(operation_id, context)


def read_operation(operation_id: UUID, context: Context) -> Operation:
    """Return an operation with its progress."""
    row = store.read_operation(context.db, operation_id)
    if row is None:
        raise NotFoundError("There is no such operation.")
    return as_operation(row)


def as_operation(row: Mapping[str, Any]) -> Operation:
    """Show the row of an operation."""
    total = len(row["instance_ids"])
    return Operation(
        operation_id=str(row["id"]),
        kind=row["kind"],
        status=row["status"],
        instance_ids=row["instance_ids"],
        total=total,
        done=total - row["remaining"],
        problem=row["problem"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )


def set_protected(instance_id: str, context: Context, *, protected: bool) -> None:
    """Protect an instance from claim, kill, drain and tick, or end that."""
    if store.set_protected(context.db, instance_id, protected=protected):
        return
    rows = store.list_agents(context.db, most=1, only=instance_id)
    if not rows:
        raise NotFoundError("There is no such instance.")
    if rows[0]["status"] == Status.DESTROYING:
        raise IllegalMoveError("This instance is being destroyed.")


def pause(request: Pause, context: Context) -> PoolSettings:
    """Stop creating."""
    store.set_paused(context.db, paused=True, reason=request.reason or "paused by an operator")
    return read_settings(context)


def resume(context: Context) -> PoolSettings:
    """Create again."""
    store.set_paused(context.db, paused=False, reason=None)
    return read_settings(context)


def read_settings(context: Context) -> PoolSettings:
    """Return the settings in force."""
    limits = store.read_limits(context.db, context.settings)
    return PoolSettings.model_validate(limits, from_attributes=True)


def put_settings(request: PutSettings, context: Context) -> PoolSettings:
    """Change what the request names; 412 when it was made for an older version."""
    changes = {name: getattr(request, name) for name in request.model_fields_set - {"version"}}
    if not changes:
        raise RequestError("Name at least one of minIdle, maxInstances, createConcurrency.")
    if not store.put_settings(context.db, changes, version=request.version):
        raise PreconditionError("The settings have changed meanwhile: read them again.")
    return read_settings(context)


def reconcile(request: RunTick, context: Context) -> TickResult:
    """Run a tick now."""
    return context.tick.run(request, timeout_seconds=context.settings.tick_budget_seconds + 35)


def _work_on(instance_ids: Sequence[str], context: Context) -> None:
    """Work on these instances for as long as a caller waits; whatever remains is the tick's."""
    budget = Budget(PATIENCE_SECONDS)
    limits = store.read_limits(context.db, context.settings)
    items = store.list_unfinished(context.db, list(instance_ids))
    if items:
        work(items, context, budget=budget, concurrency=limits.create_concurrency, actor=ACTOR)
    store.finish_operations(context.db)
