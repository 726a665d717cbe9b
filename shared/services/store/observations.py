"""Reads and writes of what is observed: listings, what the provider said, verdicts, and the facts there is one of.

Every function is one statement, however many instances it is about (P34).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.db import Json, Row, Session, load_queries
from shared.services.hosting.base import Budget, Placement, Seen
from shared.services.runtime import Verdict
from shared.services.verdicts import Watched

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))


@dataclass(frozen=True)
class Turn:
    """A listing that this process, and no other, may make now."""

    listing_id: int
    holder: UUID
    began_at: datetime
    hourly_limit: int | None
    usual_pages: int
    """How many pages the last complete listing had; 0: none was complete yet."""


@dataclass(frozen=True)
class ImageFacts:
    """The desired image, and what its tag stands for."""

    image: str
    digest: str | None
    checked_at: datetime | None
    now: datetime
    """The database's clock, which alone decides what is due."""


@dataclass(frozen=True)
class LastListing:
    """The last listing that ended; without an id there was none."""

    id: int | None
    at: datetime | None
    complete: bool


@dataclass(frozen=True)
class Batch:
    """What one `status/batch` rests on, read at one moment."""

    now: datetime
    image: ImageFacts
    listing: LastListing
    scarce: bool
    """Whether the provider's last answer left us less than a tenth of the hourly allowance."""
    watched: tuple[Watched, ...]


@dataclass(frozen=True)
class Allowance:
    """What the provider allows, and how large and old our listings are."""

    hourly_limit: int | None
    remaining: int | None
    listing_at: datetime | None
    usual_pages: int


@dataclass(frozen=True)
class Checked:
    """What one health check found of the instance as it was when *of* was read."""

    of: Watched
    verdict: Verdict
    reason: str
    at: datetime
    told: bool = False
    """Whether the runtime was asked whom it is talking to, and answered (an old image's answer is None twice)."""
    conversation_id: str | None = None
    clean: bool | None = None


class Changes:
    """What a bulk write changed: the rows as they are now, as far as it concerns them."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {row["id"]: row for row in rows}

    def applied_to(self, watched: Watched) -> Watched:
        """Return the instance as it is after the write, which may not have concerned it."""
        row = self._rows.get(watched.id)
        if row is None:
            return watched
        changed = {name: value for name, value in row.items() if name not in ("id", "domain", "health")}
        domain = row.get("domain", watched.placement.domain)
        health = Verdict(row["health"]) if row["health"] else None
        return replace(watched, placement=replace(watched.placement, domain=domain), health=health, **changed)


def begin_listing(db: Session, *, holder: UUID, seconds: float) -> Turn | None:
    """Take the turn to list for at most *seconds*, or None when it is another's, or too early."""
    rows = db.run(QUERIES["begin_listing"], holder=holder, seconds=seconds)
    return next((Turn(row["id"], holder, row["began_at"], row["hourly_limit"], row["usual_pages"]) for row in rows), None)


def record_seen(
    db: Session, seen: Iterable[tuple[Seen, datetime]], *, listing_id: int | None = None, budget: Budget | None = None
) -> Changes:
    """Store what the provider said, each with the moment at which its observation began; the last one of a service counts.

    An observation that began before the one that is stored changes nothing.
    """
    rows = {one.service_id: _seen_row(one, began_at) for one, began_at in seen}
    changed = db.run(
        QUERIES["record_seen"],
        seen=Json(list(rows.values())),
        listing_id=listing_id,
        hourly_limit=budget.hourly_limit if budget else None,
        remaining=budget.remaining if budget else None,
    )
    return Changes(changed)


def _seen_row(seen: Seen, began_at: datetime) -> dict[str, str | None]:
    return {
        "service_id": seen.service_id,
        "deployment_id": seen.deployment_id,
        "deploy_status": seen.deploy_status,
        "image": seen.image,
        "domain": seen.domain,
        "began_at": began_at.isoformat(),
    }


def finish_listing(db: Session, turn: Turn, *, complete: bool, interval_seconds: float, covered: Placement) -> None:
    """End a listing; only a complete one concludes who is missing, and only among the instances of the place it covered."""
    db.run(
        QUERIES["finish_listing"],
        listing_id=turn.listing_id,
        holder=turn.holder,
        complete=complete,
        interval_seconds=interval_seconds,
        topology=covered.topology,
        project_id=covered.project_id,
        environment_id=covered.environment_id,
    )


def read_batch(db: Session, ids: Sequence[str] | None, *, after: str, count: int, first_image: str) -> Batch:
    """Read the instances named, whatever their state, or the *count* living ones that follow the id *after*."""
    rows = db.run(QUERIES["read_batch"], ids=list(ids or ()), page=ids is None, after=after, count=count, first_image=first_image)
    facts = rows[0]
    return Batch(
        now=facts["now"],
        image=ImageFacts(facts["desired_image"], facts["digest"], facts["image_checked_at"], facts["now"]),
        listing=LastListing(facts["listing_id"], facts["listing_at"], facts["listing_complete"]),
        scarce=facts["scarce"],
        watched=tuple(_watched(row) for row in rows if row["id"] is not None),
    )


def record_verdicts(db: Session, checked: Sequence[Checked]) -> Changes:
    """Store verdicts, each unless somebody else has checked that instance, or it was deployed anew, since it was read."""
    if not checked:
        return Changes(())
    return Changes(db.run(QUERIES["record_verdicts"], verdicts=Json([_verdict_row(one) for one in checked])))


def _verdict_row(checked: Checked) -> dict[str, object]:
    before = checked.of.checked_at
    return {
        "id": checked.of.id,
        "deployment_id": checked.of.deployment_id,
        "checked_before": before.isoformat() if before else None,
        "checked_at": checked.at.isoformat(),
        "health": checked.verdict.value,
        "reason": checked.reason or None,
        "told": checked.told,
        "conversation_id": checked.conversation_id,
        "clean": checked.clean,
        "sent_generation": checked.of.sent_generation,
    }


def read_limits(db: Session) -> Allowance:
    """Read what the provider's last answers told of our allowance."""
    return Allowance(**db.run(QUERIES["read_limits"])[0])


def read_image(db: Session, *, first_image: str) -> ImageFacts:
    """Read the desired image."""
    return _image(db.run(QUERIES["read_image"], first_image=first_image)[0])


def take_image_turn(db: Session, *, first_image: str, seconds: float) -> str | None:
    """Take the turn to look up the desired image, or None when that was done in the last *seconds*."""
    rows = db.run(QUERIES["take_image_turn"], first_image=first_image, seconds=seconds)
    return rows[0]["image"] if rows else None


def replace_image(db: Session, image: str) -> ImageFacts:
    """Desire *image* from now on."""
    return _image(db.run(QUERIES["replace_image"], image=image)[0])


def record_digest(db: Session, image: str, *, digest: str, at_once: bool) -> ImageFacts | None:
    """Store what *image* stood for just now, or None when another image is desired meanwhile."""
    rows = db.run(QUERIES["record_digest"], image=image, digest=digest, at_once=at_once)
    return _image(rows[0]) if rows else None


def record_redeployed(db: Session, instance_id: str, *, image: str) -> None:
    """Note that a new deployment of *image* was asked for; what was known of the former one is forgotten."""
    db.run(QUERIES["record_redeployed"], instance_id=instance_id, image=image)


def _image(row: Row) -> ImageFacts:
    return ImageFacts(row["image"], row["digest"], row["image_checked_at"], row["now"])


def _watched(row: Mapping[str, Any]) -> Watched:
    return Watched(
        id=row["id"],
        state=row["state"],
        placement=Placement(**{name: row[name] for name in _PLACEMENT_FIELDS}, topology=row["topology"] or ""),
        health=Verdict(row["health"]) if row["health"] else None,
        **{name: row[name] for name in _PLAIN_FIELDS},
    )


_PLACEMENT_FIELDS = tuple(name for name in Placement.__dataclass_fields__ if name != "topology")
_PLAIN_FIELDS = tuple(name for name in Watched.__dataclass_fields__ if name not in ("id", "state", "placement", "health"))
