"""What to do about what was observed. Pure: rows, observations and rules in, a plan out; no database, no network, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.api.services import Observed, ServiceStatus
from shared.pool.lifecycle import AVAILABLE, CLAIMED, Status
from shared.pool.models import Instance


@dataclass(frozen=True)
class Rules:
    """The limits within which a plan may take something away."""

    failed_checks: int = 3
    """One failure never counts (P32): so many in a row do …"""
    failing_seconds: float = 60.0
    """… and only when they span at least this long."""
    stuck_seconds: float = 900.0
    loss_limit: float = 0.25
    least_losses: int = 3


@dataclass(frozen=True)
class Move:
    """What becomes of one instance: its new status, which may be the old one, and why."""

    instance: Instance
    seen: Observed
    to: Status
    reason: str | None

    @property
    def is_loss(self) -> bool:
        """Whether the pool has one fewer that works."""
        lost = {Status.DEAD, Status.CRASHED, Status.TAINTED}
        demoted = self.instance.status is Status.IDLE and self.to is Status.STARTING and self.seen.failed_checks > 0
        return self.to is not self.instance.status and (self.to in lost or demoted)


@dataclass(frozen=True)
class Plan:
    """The moves that follow from one round of observation."""

    moves: tuple[Move, ...]
    """Every instance whose status or observed facts changed."""
    losses: int
    population: int
    held_back: str | None
    """Set when so much would be lost at once that nothing may be changed: why, in words."""

    def changes(self) -> dict[str, int]:
        """Count the status changes as `before→after`."""
        counts: dict[str, int] = {}
        for move in self.moves:
            if move.to is not move.instance.status:
                name = f"{move.instance.status}→{move.to}"
                counts[name] = counts.get(name, 0) + 1
        return counts


def plan(
    instances: Iterable[Instance],
    observed: Mapping[str, Observed],
    *,
    current_image: str | None,
    rules: Rules,
    accept_losses: bool,
    now: datetime,
    may_lose: bool = True,
) -> Plan:
    """Decide what follows from *observed*. An instance that it does not mention stays as it is (P33, P35).

    Without *may_lose* only the facts of a lost one are kept: whoever sees a few instances cannot judge a loss by its share.
    """
    moves: list[Move] = []
    population = losses = 0
    for instance in instances:
        population += 1
        seen = observed.get(instance.id)
        if seen is None or instance.status in (Status.CLAIMING, Status.DESTROYING):
            continue
        to, reason = judge(instance, seen, rules=rules, now=now)
        move = Move(instance, seen, to, reason)
        if move.is_loss and not may_lose:
            to, move = instance.status, Move(instance, seen, instance.status, None)
        losses += move.is_loss
        if to is not instance.status or _facts(instance) != _facts_seen(instance, seen, current_image):
            moves.append(move)
    held_back = None
    allowed = max(rules.least_losses, int(population * rules.loss_limit))
    if losses > allowed and not accept_losses:
        held_back = (
            f"{losses} of {population} instances would be lost at once and at most {allowed} may be: nothing was changed. "
            "If the losses are real, reconcile with acceptLosses."
        )
    return Plan(tuple(moves), losses, population, held_back)


def judge(instance: Instance, seen: Observed, *, rules: Rules, now: datetime) -> tuple[Status, str | None]:
    """Return the status that follows for one instance, and why when it differs."""
    status = instance.status
    if status in AVAILABLE:
        return _judge_available(instance, seen, rules, now)
    if status in CLAIMED and _is_lost(seen):
        return Status.CRASHED, _loss(seen)
    if status is Status.CRASHED and seen.status is ServiceStatus.HEALTHY and seen.conversation_id is not None:
        if instance.conversation_id is not None and seen.conversation_id == instance.conversation_id:
            return Status.CLAIMED, "it came back with its own conversation"
        return Status.TAINTED, "it came back with another conversation"
    return status, None


def _judge_available(instance: Instance, seen: Observed, rules: Rules, now: datetime) -> tuple[Status, str | None]:
    status = instance.status
    if _is_lost(seen):
        return Status.DEAD, _loss(seen)
    if seen.status is ServiceStatus.DEPLOYING:
        return Status.STARTING, None if status is Status.STARTING else "the host is deploying it"
    if seen.status is ServiceStatus.SLEEPING:
        return Status.SLEEPING, None if status is Status.SLEEPING else "the host put it to sleep"
    if seen.status is ServiceStatus.HEALTHY:
        return Status.IDLE, None
    if seen.status in (ServiceStatus.UNHEALTHY, ServiceStatus.UNREACHABLE):
        return _judge_failing(status, seen, rules, now)
    return status, None


def _judge_failing(status: Status, seen: Observed, rules: Rules, now: datetime) -> tuple[Status, str | None]:
    failing_seconds = (now - seen.failing_since).total_seconds() if seen.failing_since is not None else 0.0
    in_a_row = seen.failed_checks >= rules.failed_checks
    if in_a_row and failing_seconds >= rules.stuck_seconds:
        return (
            Status.DEAD,
            f"{seen.failed_checks} checks in a row failed over {failing_seconds:.0f} s: {seen.reason or 'no answer'}",
        )
    if status is Status.IDLE and not (in_a_row and failing_seconds >= rules.failing_seconds):
        return Status.IDLE, None
    if status is Status.STARTING:
        return Status.STARTING, None
    return Status.STARTING, f"it fails its checks: {seen.reason or 'no answer'}"


def _is_lost(seen: Observed) -> bool:
    return seen.status in (ServiceStatus.DEPLOY_FAILED, ServiceStatus.GONE, ServiceStatus.DESTROYING)


def _loss(seen: Observed) -> str:
    if seen.status is ServiceStatus.GONE:
        return "the host no longer has it"
    if seen.status is ServiceStatus.DESTROYING:
        return "the services side is destroying it"
    return f"its deployment is {seen.deploy_status or 'failed'}"


def changed_row(move: Move, current_image: str | None) -> dict[str, Any]:
    """Return a move as a row for `apply_observations`."""
    instance, facts = move.instance, _facts_seen(move.instance, move.seen, current_image)
    names = ("current_image", "url", "image", "observed", "deploy_status", "health_reason", "failed_checks", "failing_since")
    row: dict[str, Any] = dict(zip(names, facts, strict=True))
    row.update(id=instance.id, version=instance.version, before=instance.status, after=move.to, reason=move.reason)
    return {**row, "since": instance.status_since}


def _facts(instance: Instance) -> tuple[object, ...]:
    return (
        instance.current_image,
        instance.url,
        instance.image,
        instance.observed,
        instance.deploy_status,
        instance.health_reason,
        instance.failed_checks,
        instance.failing_since,
    )


def _facts_seen(instance: Instance, seen: Observed, current_image: str | None) -> tuple[object, ...]:
    if seen.status in (ServiceStatus.UNKNOWN, ServiceStatus.UNREGISTERED):
        return (*_facts(instance)[:3], str(seen.status), *_facts(instance)[4:])
    image = seen.image or instance.image
    is_current = image is not None and image == current_image
    url = seen.url or instance.url
    return (is_current, url, image, str(seen.status), seen.deploy_status, seen.reason, seen.failed_checks, seen.failing_since)
