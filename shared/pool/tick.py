"""The tick: observe and apply what follows → settle expired leases → retire → replenish → carry on with work → record.

Alone (a lease in the database), within a time budget, resumable at any line, harmless when doubled or missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid4

from shared import log
from shared.api.pool import ObserveRequest, RunTick, TickResult
from shared.budget import Budget
from shared.errors import AppError
from shared.pool import store
from shared.pool.context import Context
from shared.pool.models import ExpiredLease
from shared.pool.observe import Round, observe
from shared.pool.redeploy import carry_on_redeployments
from shared.pool.replenish import replenish
from shared.pool.settle import settle
from shared.pool.sweep import sweep_if_due
from shared.pool.work import Progress, work
from shared.several import several

ACTOR = "tick"
LEASE_MARGIN_SECONDS = 30.0
"""By how much the tick's lease outlives its budget: a call that was begun may still be answered."""
OBSERVING_SHARE = 0.6
"""How much of the budget observing may spend, however slow the other side is."""
SETTLED_AT_ONCE = 8
LEAST_SECONDS = 2.0


def tick(request: RunTick, context: Context, *, now: datetime) -> TickResult:
    """Run one tick and record what was seen, decided and done; `skipped` while another one runs."""
    budget = Budget(context.settings.tick_budget_seconds)
    holder = uuid4()
    lease_seconds = context.settings.tick_budget_seconds + LEASE_MARGIN_SECONDS
    if not store.take_lease(context.db, "tick", holder, seconds=lease_seconds):
        return TickResult(outcome="skipped", warnings=["another tick is running"])
    tick_id = store.begin_tick(context.db)
    record: dict[str, object] = {"seen": {}, "decided": {}, "done": {}, "warnings": []}
    try:
        outcome = _run(request, context, record, budget=budget, now=now, turn=tick_id)
    except Exception as error:
        record["warnings"] = [*_warnings(record), error.message if isinstance(error, AppError) else "it crashed; see the log"]
        store.finish_tick(context.db, tick_id, holder, outcome="failed", record=record)
        raise
    store.finish_tick(context.db, tick_id, holder, outcome=outcome, record=record)
    return TickResult.model_validate({"outcome": outcome, "tick_id": tick_id, "warnings": _warnings(record)})


def observe_some(request: ObserveRequest, context: Context, *, now: datetime) -> TickResult:
    """Observe these instances, apply what follows, and carry on with their creation or destruction.

    Without the tick's lease, and without creating anything; losses are left to the tick, which sees the whole pool.
    """
    budget = Budget(context.settings.tick_budget_seconds)
    ids = request.instance_ids
    result = observe(context, instance_ids=ids, budget=budget, accept_losses=False, actor="observe", now=now)
    _work(context, budget=budget, instance_ids=ids)
    return TickResult(outcome="done", warnings=result.warnings)


def _run(request: RunTick, context: Context, record: dict[str, object], *, budget: Budget, now: datetime, turn: int) -> str:
    share = Budget(budget.left() * OBSERVING_SHARE)
    losses = request.accept_losses
    observed = observe(context, instance_ids=None, budget=share, accept_losses=losses, actor=ACTOR, now=now, turn=turn)
    record.update(seen=observed.seen(), warnings=observed.warnings, decided=_decided(observed))
    if observed.plan is not None and observed.plan.held_back is not None:
        log.error("tick.held_back", reason=observed.plan.held_back)
        return "held_back"
    settled = _settle_expired(context, observed.warnings, budget=Budget(budget.left() / 2))
    closed = store.fail_abandoned_claims(context.db, older_than_seconds=_longest_claim_seconds(context))
    retired = store.retire_unusable(context.db, actor=ACTOR) + store.retire_surplus(context.db, context.settings, actor=ACTOR)
    created = replenish(context, actor=ACTOR)
    progress = _work(context, budget=budget)
    operations = carry_on_redeployments(context, budget=budget) + store.finish_operations(context.db)
    store.forget_old(context.db)
    sweep_if_due(context, observed.warnings, budget=budget)
    record["decided"] = {**_decided(observed), "retired": retired, "created": len(created)}
    counts = {"applied": observed.applied, "settled": settled, "claimsClosed": closed, "operationsFinished": operations}
    record["done"] = {**progress.done(), **counts}
    _warn(context, observed.warnings, progress)
    return "done"


def _decided(observed: Round) -> dict[str, object]:
    if observed.plan is None:
        return {}
    return {"moves": observed.plan.changes(), "losses": observed.plan.losses, "overtaken": observed.overtaken}


def _settle_expired(context: Context, warnings: list[str], *, budget: Budget) -> int:
    """Settle several at a time while *budget* lasts; one failure stops no other, and is tried again by the next tick (P36)."""
    leases = store.list_expired_leases(context.db)

    def step(lease: ExpiredLease) -> str | None:
        return _settle_one(lease, context) if budget.left() >= LEAST_SECONDS else "the time was used up"

    problems = several(step, leases, at_once=SETTLED_AT_ONCE)
    unsettled = [(lease, problem) for lease, problem in zip(leases, problems, strict=True) if problem is not None]
    if unsettled:
        first, problem = unsettled[0]
        warnings.append(f"{len(unsettled)} expired claims could not be settled, for example on {first.id}: {problem}")
    return len(leases) - len(unsettled)


def _settle_one(lease: ExpiredLease, context: Context) -> str | None:
    """Settle one and fail its claim unless it was completed; returns what stood against it, in words."""
    try:
        outcome = settle(lease.id, lease.generation, lease.claim_id, context, actor=ACTOR)
        problem = f"its process did not finish; introduced: {outcome.introduced}"
        store.fail_claim(context.db, lease.claim_id, lease.id, lease.generation, problem=problem)
    except AppError as error:
        log.warning("lease.unsettled", instance_id=lease.id, claim_id=str(lease.claim_id), reason=error.message)
        return error.message
    return None


def _longest_claim_seconds(context: Context) -> float:
    """Return an age at which no process can still be working on a claim: all its attempts, and the last one's lease."""
    return context.settings.claim_timeout_seconds + context.settings.claim_lease_seconds


def _work(context: Context, *, budget: Budget, instance_ids: Sequence[str] | None = None) -> Progress:
    items = store.list_unfinished(context.db, instance_ids)
    if not items:
        return Progress()
    limits = store.read_limits(context.db, context.settings)
    progress = work(items, context, budget=budget, concurrency=limits.create_concurrency, actor=ACTOR)
    store.mark_worked(context.db, _worked(progress))
    return progress


def _worked(progress: Progress) -> Sequence[str]:
    return [*progress.built, *progress.under_way, *progress.problems]


def _warn(context: Context, warnings: list[str], progress: Progress) -> None:
    if progress.problems:
        first = next(iter(progress.problems.items()))
        warnings.append(f"{len(progress.problems)} instances cannot go on, for example {first[0]}: {first[1]}")
    if progress.not_reached:
        warnings.append(f"{progress.not_reached} instances were not reached in time and come first in the next tick")
    census = store.count_by_status(context.db)
    longest = census.longest_starting_seconds
    if longest > context.settings.pool_stuck_timeout_seconds:
        warnings.append(f"an instance has been starting for {longest / 60:.0f} minutes")
    limits = store.read_limits(context.db, context.settings)
    counts = census.counts
    warm, total = counts["idle"] + counts["starting"] + counts["sleeping"], sum(counts.values())
    if limits.paused:
        warnings.append(f"creating is paused: {limits.paused_reason or 'no reason was given'}")
    elif warm < limits.min_idle and total >= limits.max_instances:
        warnings.append(
            f"the cap of {limits.max_instances} instances is reached, so {warm} instead of {limits.min_idle} are warm"
        )


def _warnings(record: dict[str, object]) -> list[str]:
    found = record["warnings"]
    return list(found) if isinstance(found, list) else []
