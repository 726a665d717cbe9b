"""The ledger: every resource that was bought, or may have been, and our own stock of released ones (P17, P31).

A line is written before a purchase and ends only after its vendor confirmed the end. One worker at a time has a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr, TypeAdapter

from shared.db import Row, Rows, Session, load_queries
from shared.errors import ConflictError
from shared.services.models import LedgerRow, LedgerStatus, LedgerView, State
from shared.services.sealing import Ring
from shared.settings import reveal

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
_VARIABLES = TypeAdapter(dict[str, str])


def view(db: Session, instance_id: str, tool: str) -> LedgerView:
    """Read what is known of an instance's tool."""
    row = db.run(QUERIES["find_latest"], instance_id=instance_id, tool=tool)[0]
    latest = None if row["id"] is None else _line(row)
    return LedgerView(known=row["known"], alive=row["alive"], latest=latest, last_attempt=row["last_attempt"])


def intend(
    db: Session, instance_id: str, tool: str, *, name: str, attempt: int, worker: UUID, lease_seconds: float
) -> LedgerRow | None:
    """Write down a purchase before it is made; None when there is a tombstone, or a living line already."""
    return _only(
        db.run(
            QUERIES["intend"],
            instance_id=instance_id,
            tool=tool,
            name=name,
            attempt=attempt,
            worker=worker,
            lease_seconds=lease_seconds,
        )
    )


def take_from_stock(
    db: Session, instance_id: str, tool: str, *, name: str, attempt: int, worker: UUID, lease_seconds: float
) -> LedgerRow | None:
    """Intend to hand out a rested resource of our stock; None when there is none. Two instances never get the same.

    None also when somebody intends the same tool for this instance at this moment.
    """
    try:
        rows = db.run(
            QUERIES["take_from_stock"],
            instance_id=instance_id,
            tool=tool,
            name=name,
            attempt=attempt,
            worker=worker,
            lease_seconds=lease_seconds,
        )
    except ConflictError:
        return None
    return _only(rows)


def resume(db: Session, row: LedgerRow, *, worker: UUID, lease_seconds: float) -> LedgerRow | None:
    """Go on with an intended line; None when somebody is at it, when it ended, or when there is a tombstone."""
    return _only(db.run(QUERIES["resume"], id=row.id, worker=worker, lease_seconds=lease_seconds))


def next_attempt(db: Session, row: LedgerRow, *, name: str, worker: UUID) -> LedgerRow | None:
    """Go on under the next attempt's *name*; None when the line is somebody else's by now."""
    return _only(db.run(QUERIES["next_attempt"], id=row.id, attempt=row.attempt + 1, name=name, worker=worker))


def forget_resource(db: Session, row: LedgerRow, *, worker: UUID) -> LedgerRow | None:
    """Forget which resource of our stock a line was to hand out; None when the line is somebody else's by now."""
    return _only(db.run(QUERIES["forget_resource"], id=row.id, worker=worker))


def is_known(db: Session, row: LedgerRow, *, resource_id: str) -> bool:
    """Whether some living line holds a resource, or somebody is at *row* who may find it."""
    rows = db.run(QUERIES["is_known"], id=row.id, tool=row.tool, resource_id=resource_id)
    return bool(rows[0]["known"])


def activate(db: Session, row: LedgerRow, *, worker: UUID, resource_id: str, variables: str | None) -> State | None:
    """Note a finished purchase with its sealed variables, and return the instance's state; None when the line is not ours."""
    rows = db.run(QUERIES["activate"], id=row.id, worker=worker, resource_id=resource_id, variables=variables)
    return State(rows[0]["state"]) if rows else None


def record_failure(db: Session, row: LedgerRow, *, worker: UUID, reason: str, pause_seconds: float) -> None:
    """Note why buying or releasing failed, and let go of the line."""
    db.run(QUERIES["record_failure"], id=row.id, worker=worker, reason=reason, pause_seconds=pause_seconds)


def find_held(db: Session, instance_id: str, tool: str, *, resource: str) -> LedgerRow | None:
    """Find an instance's line by the vendor's id, or by the name under which it was bought."""
    return _only(db.run(QUERIES["find_held"], instance_id=instance_id, tool=tool, resource=resource))


def begin_release(db: Session, row: LedgerRow, *, worker: UUID, lease_seconds: float) -> LedgerRow | None:
    """Note that a resource is being released; None when somebody is at it, or it has ended."""
    return _only(db.run(QUERIES["begin_release"], id=row.id, worker=worker, lease_seconds=lease_seconds))


def finish_release(db: Session, row: LedgerRow, *, worker: UUID) -> bool:
    """Note the confirmed end of a resource; False when the line is somebody else's by now."""
    return bool(db.run(QUERIES["finish_release"], id=row.id, worker=worker))


def put_in_stock(db: Session, row: LedgerRow, *, worker: UUID, resource_id: str, cooldown_seconds: float) -> bool:
    """Take a resource back into our stock, where it rests first (P31); False when the line is somebody else's by now."""
    rows = db.run(QUERIES["put_in_stock"], id=row.id, worker=worker, resource_id=resource_id, cooldown_seconds=cooldown_seconds)
    return bool(rows)


def list_living(db: Session, instance_id: str) -> tuple[LedgerRow, ...]:
    """Read what an instance holds, or may hold; what was touched longest ago comes first."""
    return tuple(map(_line, db.run(QUERIES["list_living"], instance_id=instance_id)))


def list_all(db: Session, instance_id: str) -> tuple[LedgerRow, ...]:
    """Read everything that is remembered of an instance."""
    return tuple(map(_line, db.run(QUERIES["list_all"], instance_id=instance_id)))


def seal_variables(variables: Mapping[str, SecretStr], ring: Ring, *, instance_id: str, tool: str) -> str | None:
    """Encrypt what a tool grants to one instance; None when it grants nothing."""
    if not variables:
        return None
    text = _VARIABLES.dump_json({name: reveal(value) for name, value in variables.items()}).decode()
    return ring.seal(SecretStr(text), instance_id=instance_id, column=f"variables.{tool}")


def granted_variables(db: Session, ring: Ring, *, instance_id: str) -> dict[str, SecretStr]:
    """Read what all tools of an instance grant, decrypted."""
    granted: dict[str, SecretStr] = {}
    for row in db.run(QUERIES["read_granted"], instance_id=instance_id):
        clear = ring.unseal(row["variables"], instance_id=instance_id, column=f"variables.{row['tool']}")
        granted |= {name: SecretStr(value) for name, value in _VARIABLES.validate_json(reveal(clear)).items()}
    return granted


def _only(rows: Rows) -> LedgerRow | None:
    return _line(rows[0]) if rows else None


def _line(row: Row) -> LedgerRow:
    return LedgerRow(
        id=row["id"],
        instance_id=row["instance_id"],
        tool=row["tool"],
        status=LedgerStatus(row["status"]),
        name=row["name"],
        attempt=row["attempt"],
        resource_id=row["resource_id"],
        reason=row["reason"],
        failures=row["failures"],
        updated_at=row["updated_at"],
    )
