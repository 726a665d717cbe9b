"""Carry on with creations and destructions at the services side until they are confirmed. Shared by the tick and by operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared import log
from shared.api.services import Created, Destroyed, Working
from shared.budget import Budget
from shared.errors import AppError, RemoteError
from shared.pool import store
from shared.pool.context import Context
from shared.pool.lifecycle import Status
from shared.pool.models import Unfinished
from shared.pool.services_api import is_tombstone
from shared.several import several

LEAST_SECONDS = 2.0
"""Below this no further call is begun."""

LONGEST_CALL_SECONDS = 20.0


@dataclass
class Progress:
    """What one round of work led to."""

    built: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    not_reached: int = 0

    def done(self) -> dict[str, object]:
        """Summarise it for the record of a tick."""
        return {
            "built": self.built,
            "destroyed": self.destroyed,
            "underWay": len(self.under_way),
            "problems": self.problems,
            "notReached": self.not_reached,
        }


def work(items: Sequence[Unfinished], context: Context, *, budget: Budget, concurrency: int, actor: str) -> Progress:
    """Call the services side once for each item, several at a time, while *budget* lasts; one failure stops no other (P36).

    Repeats are harmless at the services side, and a row goes only after every part of its end was confirmed (P25).
    """
    progress = Progress()

    def step(item: Unfinished) -> None:
        _one(item, context, progress, budget=budget, actor=actor)

    several(step, items, at_once=concurrency)
    return progress


def _one(item: Unfinished, context: Context, progress: Progress, *, budget: Budget, actor: str) -> None:
    left = budget.left()
    if left < LEAST_SECONDS:
        progress.not_reached += 1
        return
    deadline = min(LONGEST_CALL_SECONDS, left)
    try:
        if item.status is Status.DESTROYING:
            _destroy(item.id, context, progress, deadline=deadline, actor=actor)
        else:
            _create(item.id, context, progress, deadline=deadline)
    except AppError as error:
        progress.problems[item.id] = error.message
        log.warning("work.failed", instance_id=item.id, status=item.status, reason=error.message)


def _create(instance_id: str, context: Context, progress: Progress, *, deadline: float) -> None:
    try:
        answer: Created | Working = context.services.create(instance_id, deadline_seconds=deadline)
    except RemoteError as error:
        if not is_tombstone(error):
            store.record_problem(context.db, instance_id, status=Status.STARTING, reason=error.message)
            raise
        store.record_buried(context.db, instance_id)
        return
    if isinstance(answer, Created):
        store.record_built(context.db, instance_id, url=answer.url)
        progress.built.append(instance_id)
        return
    _keep_going(answer, context, progress, status=Status.STARTING)


def _destroy(instance_id: str, context: Context, progress: Progress, *, deadline: float, actor: str) -> None:
    answer: Destroyed | Working = context.services.destroy(instance_id, deadline_seconds=deadline)
    if isinstance(answer, Destroyed):
        if answer.hosting and all(answer.released.values()):
            store.forget_destroyed(context.db, instance_id, actor=actor)
            progress.destroyed.append(instance_id)
            log.info("instance.destroyed", instance_id=instance_id)
            return
        answer = Working(
            instance_id=instance_id, status="destroying", step="confirm", retry_after_seconds=0, problem="not all is confirmed"
        )
    _keep_going(answer, context, progress, status=Status.DESTROYING)


def _keep_going(answer: Working, context: Context, progress: Progress, *, status: Status) -> None:
    progress.under_way.append(answer.instance_id)
    if answer.problem:
        progress.problems[answer.instance_id] = f"{answer.step}: {answer.problem}"
        store.record_problem(context.db, answer.instance_id, status=status, reason=f"{answer.step}: {answer.problem}")
