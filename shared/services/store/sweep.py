"""What the sweep reads and writes: everything our tables know, and the findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from shared.db import Json, Session, load_queries
from shared.services.hosting.base import Placement

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
HOSTING = "hosting"
"""The vendor of machines; every other vendor is named by its tool."""
KEEP_DAYS = 180
_FORGET_AT_ONCE = 100


class Kind(StrEnum):
    """Which side has what the other lacks."""

    ORPHAN = "orphan"
    """The vendor holds it; our tables do not know it."""
    MISSING = "missing"
    """Our tables say that the vendor has it; its inventory lacks it."""


@dataclass(frozen=True)
class Known:
    """One thing that a vendor holds, or may hold, by our tables."""

    vendor: str
    instance_id: str | None
    name: str
    resource: str | None
    under_way: bool
    """Whether anything that the vendor holds under the name may belong to it."""
    expected: bool
    """Whether a complete inventory must contain it."""


@dataclass(frozen=True)
class Snapshot:
    """What our tables knew at one moment."""

    at: datetime
    known: frozenset[Known]


@dataclass(frozen=True)
class Difference:
    """One thing that one side has and the other lacks."""

    kind: Kind
    vendor: str
    resource: str
    name: str
    instance_id: str | None = None
    vendor_created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class OpenFinding(Difference):
    """A difference that stands, and since when."""

    id: int
    first_seen_at: datetime
    last_seen_at: datetime
    times_seen: int
    acted_at: datetime | None
    """When its end was begun; it is tried again until it is confirmed."""
    reason: str | None
    confirmed: bool
    """Whether two sweeps saw it, far enough apart to act upon it."""


def read_known(db: Session, *, covered: Placement) -> Snapshot:
    """Read everything our tables know; only machines of the place that the host lists are expected there."""
    rows = db.run(
        QUERIES["read_known"],
        topology=covered.topology,
        project_id=covered.project_id,
        environment_id=covered.environment_id,
    )
    fields = Known.__dataclass_fields__
    known = frozenset(Known(**{name: row[name] for name in fields}) for row in rows if row["vendor"] is not None)
    return Snapshot(at=rows[0]["now"], known=known)


def record(db: Session, found: Iterable[Difference], *, complete: Sequence[str], holder: UUID, began_at: datetime) -> bool:
    """Store what a sweep found, and resolve what is met no more at a vendor in *complete*; False when the turn is another's."""
    rows = [
        {
            "kind": one.kind.value,
            "vendor": one.vendor,
            "resource": one.resource,
            "name": one.name,
            "instance_id": one.instance_id,
            "vendor_created_at": one.vendor_created_at.isoformat() if one.vendor_created_at else None,
        }
        for one in found
    ]
    return bool(db.run(QUERIES["record"], found=Json(rows), complete=list(complete), holder=holder, began_at=began_at))


def list_open(db: Session, *, grace_seconds: float) -> tuple[OpenFinding, ...]:
    """Read what stands now; an orphan younger than the grace period is nothing yet."""
    rows = db.run(QUERIES["list_open"], grace_seconds=grace_seconds)
    return tuple(OpenFinding(**{**row, "kind": Kind(row["kind"])}) for row in rows)


def adopter(finding: OpenFinding) -> str:
    """Return the owner under which the ledger holds an orphan while it is released; no instance."""
    return f"swept-{finding.id}"


def adopt(db: Session, finding: OpenFinding, *, holder: UUID) -> bool:
    """Take an orphan into the ledger to be released; False when our tables know it meanwhile, or the turn is another's."""
    return bool(db.run(QUERIES["adopt"], id=finding.id, adopter=adopter(finding), holder=holder))


def begin_removal(db: Session, finding: OpenFinding, *, holder: UUID) -> bool:
    """Note that a machine is about to be removed; False when our tables know it meanwhile, or the turn is another's."""
    return bool(db.run(QUERIES["begin_removal"], id=finding.id, holder=holder))


def resolve(db: Session, finding: OpenFinding) -> None:
    """Note that what was found has ended."""
    db.run(QUERIES["resolve"], id=finding.id)


def record_problem(db: Session, finding: OpenFinding, *, reason: str) -> None:
    """Note why what was found could not be ended."""
    db.run(QUERIES["record_problem"], id=finding.id, reason=reason)


def forget_resolved(db: Session) -> None:
    """Delete a few findings that were resolved more than 180 days ago."""
    db.run(QUERIES["forget_resolved"], days=KEEP_DAYS, count=_FORGET_AT_ONCE)
