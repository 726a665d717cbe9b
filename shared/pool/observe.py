"""Observe instances through the services side and write what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.api.services import MAX_BATCH, Observed, ServiceStatus, StatusBatch, StatusPage
from shared.budget import Budget
from shared.errors import RemoteError
from shared.pool import store
from shared.pool.context import Context
from shared.pool.lifecycle import Status
from shared.pool.models import Instance
from shared.pool.plan import Plan, Rules, changed_row, plan

LEAST_SECONDS = 1.0


@dataclass
class Round:
    """What one round of observation saw, decided and did."""

    observed: dict[str, Observed] = field(default_factory=dict)
    current_image: str | None = None
    listing: StatusPage | None = None
    plan: Plan | None = None
    applied: int = 0
    overtaken: int = 0
    """Moves that were lost to somebody who changed the row first: an ordinary outcome, reported (P1)."""
    warnings: list[str] = field(default_factory=list)

    def seen(self) -> dict[str, object]:
        """Summarise what was seen, for the record."""
        counts: dict[str, int] = {}
        for one in self.observed.values():
            counts[one.status] = counts.get(one.status, 0) + 1
        listing = self.listing.listing.model_dump(mode="json") if self.listing else None
        return {"statuses": counts, "listing": listing, "currentImage": self.current_image}


def observe(
    context: Context,
    *,
    instance_ids: Sequence[str] | None,
    budget: Budget,
    accept_losses: bool,
    actor: str,
    now: datetime,
    turn: int = 0,
) -> Round:
    """Read every instance in batches, plan, and apply: each move only to a row that still is what was read.

    A batch that failed leaves its instances as they are. A plan that would lose too much at once is not applied at all. With
    *turn*, which grows from tick to tick, each batch is the first one in its turn: so the time runs out on others (P36).
    Losses are judged by their share of the pool, so an observation of some instances leaves them to the tick.
    """
    result = Round()
    instances = store.list_to_observe(context.db, instance_ids)
    wanted = store.read_limits(context.db, context.settings).min_idle if instance_ids is None else 0
    _read_batches(_rotated(instances, turn), result, context, budget=budget, wake=_to_wake(instances, wanted, turn))
    rules = Rules(stuck_seconds=context.settings.pool_stuck_timeout_seconds, loss_limit=context.settings.pool_loss_limit)
    result.plan = plan(
        instances,
        result.observed,
        current_image=result.current_image,
        rules=rules,
        accept_losses=accept_losses,
        now=now,
        may_lose=instance_ids is None,
    )
    if result.plan.held_back is not None:
        result.warnings.append(result.plan.held_back)
        return result
    if result.current_image is not None:
        store.note_desired_image(context.db, result.current_image)
    if result.plan.moves:
        rows = [changed_row(move, result.current_image) for move in result.plan.moves]
        written = store.apply_observations(context.db, rows, actor=actor)
        result.applied, result.overtaken = len(written), len(rows) - len(written)
    return result


def _read_batches(instances: list[Instance], result: Round, context: Context, *, budget: Budget, wake: frozenset[str]) -> None:
    for start in range(0, len(instances), MAX_BATCH):
        batch = [instance.id for instance in instances[start : start + MAX_BATCH]]
        left = budget.left() / 2
        if left < LEAST_SECONDS:
            result.warnings.append(f"{len(instances) - start} instances were not observed: the time was used up")
            return
        request = StatusBatch(instance_ids=batch, deadline_seconds=min(20.0, left), wake=[name for name in batch if name in wake])
        try:
            page = context.services.status_batch(request)
        except RemoteError as error:
            result.warnings.append(f"{len(instances) - start} instances were not observed: {error.message}")
            return
        result.observed.update(page.instances)
        result.current_image = page.current_image or result.current_image
        result.listing = page
    unregistered = sum(1 for one in result.observed.values() if one.status is ServiceStatus.UNREGISTERED)
    if unregistered:
        result.warnings.append(
            f"the services side does not know {unregistered} of our instances: is it the right address and database? "
            "Nothing was concluded from it."
        )


def _rotated(instances: list[Instance], turn: int) -> list[Instance]:
    batches = max(1, -(-len(instances) // MAX_BATCH))
    start = turn % batches * MAX_BATCH
    return instances[start:] + instances[:start]


def _to_wake(instances: list[Instance], wanted: int, turn: int) -> frozenset[str]:
    """Choose the sleeping instances to wake when awake ones are short of *wanted*, others in each turn."""
    awake = sum(1 for instance in instances if instance.status in (Status.IDLE, Status.STARTING))
    sleeping = [instance.id for instance in instances if instance.status is Status.SLEEPING]
    start = turn % max(1, len(sleeping))
    return frozenset((sleeping[start:] + sleeping[:start])[: max(0, wanted - awake)])
