"""What is known of an instance, and what that means: the pure half of observing. No database, no network, no clock of its own.

The mapping below is the services side's half of the table in the contract. "Unknown" is a status of its own and is never
turned into an end: an outage, a word that we do not know, or a verdict that is still missing changes nothing (P33).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.api.services import Observed, ServiceStatus
from shared.services.hosting.base import Placement
from shared.services.runtime import Verdict

DEPLOYING = frozenset({"QUEUED", "WAITING", "INITIALIZING", "BUILDING", "DEPLOYING", "NEEDS_APPROVAL"})
FAILED = frozenset({"FAILED", "CRASHED", "REMOVED", "REMOVING", "SKIPPED"})
RUNNING = "SUCCESS"
SLEEPING = "SLEEPING"
"""The provider's words for a deployment (`DeploymentStatus` in its schema)."""

_OF_STATE = {
    "creating": (ServiceStatus.CREATING, "It is being built."),
    "destroying": (ServiceStatus.DESTROYING, "It is being taken down."),
    "destroyed": (ServiceStatus.GONE, "It was taken down."),
}
_OF_HEALTH = {
    Verdict.READY: ServiceStatus.HEALTHY,
    Verdict.NOT_READY: ServiceStatus.UNHEALTHY,
    Verdict.UNREACHABLE: ServiceStatus.UNREACHABLE,
}
FAILING_AGE_SECONDS = 4.0
"""How old the verdict of one that failed may be: an instance that has just booted is ready a moment later."""


@dataclass(frozen=True)
class Watched:
    """What is stored of one instance, as far as observing needs it."""

    id: str
    state: str
    placement: Placement
    gateway_token: str | None = field(repr=False)
    """Sealed."""
    deployment_id: str | None
    deploy_status: str | None
    image: str | None
    seen_at: datetime | None
    gone: bool
    health: Verdict | None
    health_reason: str | None
    failed_checks: int
    failing_since: datetime | None
    checked_at: datetime | None
    conversation_id: str | None
    clean: bool | None
    conversation_read_at: datetime | None
    """When the two above were read; None: they must be read again."""
    sent_generation: int
    """The newest generation that was, or may have been, introduced; 0: none ever."""
    built_at: datetime | None

    def url(self, template: str) -> str | None:
        """Return its address, or None as long as it has no domain."""
        return None if self.placement.domain is None else template.replace("{domain}", self.placement.domain)

    @property
    def runs(self) -> bool:
        """Whether its process should be answering now, so that a silence says something."""
        return self.state == "created" and not self.gone and self.deploy_status == RUNNING

    @property
    def starts(self) -> bool:
        """Whether its deployment is still under way."""
        return status_of(self)[0] is ServiceStatus.DEPLOYING

    @property
    def failing(self) -> bool:
        """Whether its last check failed."""
        return self.failed_checks > 0


def status_of(watched: Watched) -> tuple[ServiceStatus, str | None]:
    """Return the one status that stands for all that is known, and a reason for people where there is one to give."""
    if watched.state in _OF_STATE:
        return _OF_STATE[watched.state]
    if watched.gone:
        return ServiceStatus.GONE, "The provider's complete listings no longer contain it."
    if watched.deploy_status != RUNNING:
        return _of_word(watched.deploy_status)
    if watched.health is None:
        return ServiceStatus.UNKNOWN, "It is running, and has not been asked yet whether it is ready."
    return _OF_HEALTH[watched.health], watched.health_reason or None


def _of_word(word: str | None) -> tuple[ServiceStatus, str]:
    if word is None or word in DEPLOYING:
        return ServiceStatus.DEPLOYING, "The provider is still starting it."
    if word in FAILED:
        return ServiceStatus.DEPLOY_FAILED, "The provider says that its deployment failed or was removed."
    if word == SLEEPING:
        return ServiceStatus.SLEEPING, "The provider has put it to sleep; a request wakes it."
    return ServiceStatus.UNKNOWN, "The provider describes its deployment with a word that we do not know."


def observed(watched: Watched, *, url: str | None) -> Observed:
    """Describe an instance as it is known."""
    status, reason = status_of(watched)
    return Observed(
        status=status,
        deploy_status=watched.deploy_status,
        url=url,
        image=watched.image,
        reason=reason,
        failed_checks=watched.failed_checks,
        failing_since=watched.failing_since,
        conversation_id=watched.conversation_id,
        clean=watched.clean,
        checked_at=watched.checked_at,
    )


def due_for_check(rows: Iterable[Watched], *, now: datetime, max_age_seconds: float) -> list[Watched]:
    """Return the running instances whose verdict is too old, the most urgent first.

    One that failed, or has only just booted, is asked again after a few seconds whatever *max_age* is: it may be ready by now.
    Never asked comes first, then the longest ago; a failing one counts as asked one *max_age* earlier than it was, so that it
    is looked at sooner, and yet no number of failing ones keeps the others from their turn (P36).
    """
    age = timedelta(seconds=max_age_seconds)
    ages = {True: min(age, timedelta(seconds=FAILING_AGE_SECONDS)), False: age}
    due = [row for row in rows if row.runs and (row.checked_at is None or now - row.checked_at > ages[row.failing])]

    def urgency(row: Watched) -> tuple[bool, datetime, str]:
        if row.checked_at is None:
            return False, now, row.id
        return True, row.checked_at - age if row.failing else row.checked_at, row.id

    return sorted(due, key=urgency)


def uncovered(rows: Iterable[Watched], *, now: datetime, woken: frozenset[str], stale_seconds: float) -> list[Watched]:
    """Return the instances being started, or just woken, of which no observation is younger than *stale_seconds*.

    They are worth a call of their own: the next listing may be a minute away. The longest unseen comes first.
    """
    oldest = now - timedelta(seconds=stale_seconds)

    def wanted(row: Watched) -> bool:
        waking = row.deploy_status == SLEEPING and row.id in woken and row.state == "created" and not row.gone
        return (row.starts or waking) and (row.seen_at is None or row.seen_at < oldest)

    def urgency(row: Watched) -> tuple[bool, datetime, str]:
        return row.seen_at is not None, row.seen_at or row.built_at or now, row.id

    return sorted(filter(wanted, rows), key=urgency)


def must_ask_whom(row: Watched, verdict: Verdict) -> bool:
    """Whether a check must also ask whom the agent is talking to: it was introduced, is ready, and what is known is too old.

    Being seen not ready, being deployed anew and being introduced each make it too old (P39).
    """
    return verdict is Verdict.READY and row.sent_generation > 0 and row.conversation_read_at is None
