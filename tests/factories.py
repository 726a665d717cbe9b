"""Rows with defaults: a test names only what it is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.api.pool import ClaimRequest
from shared.api.services import Observed, ServiceStatus
from shared.db import Database, Query
from shared.pool import store
from shared.pool.lifecycle import Status
from shared.pool.models import Instance, Taken

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

_INSERT = Query.parse(
    "insert_instance",
    """
    INSERT INTO pool.instances (id, status, claim_id, introduced, built, protected, current_image, url, created_at, not_after,
                                lease_expires_at, generation, reason)
    VALUES (:id, :status, CAST(:claim_id AS uuid), CAST(:introduced AS boolean), CAST(:built AS boolean),
            CAST(:protected AS boolean), CAST(:current_image AS boolean), :url,
            now() - make_interval(secs => CAST(:age AS float8)),
            CASE WHEN :status = 'claiming' THEN now() + make_interval(secs => CAST(:lease AS float8)) - interval '10 s' END,
            CASE WHEN :status = 'claiming' THEN now() + make_interval(secs => CAST(:lease AS float8)) END,
            CAST(:generation AS bigint), :reason);
    """,
)


def an_instance(**fields: Any) -> Instance:
    """Return an instance as an observation is compared with it."""
    values: dict[str, Any] = {
        "id": "abc",
        "status": Status.IDLE,
        "version": 1,
        "introduced": False,
        "current_image": False,
        "url": "https://abc.example",
        "image": None,
        "observed": None,
        "deploy_status": None,
        "health_reason": None,
        "failed_checks": 0,
        "failing_since": None,
        "status_since": NOW - timedelta(minutes=5),
        "conversation_id": None,
    }
    return Instance(**{**values, **fields})


def seen(status: ServiceStatus, **fields: Any) -> Observed:
    """Return what the services side says of an instance."""
    return Observed(status=status, **fields)


def insert_instance(
    db: Database,
    instance_id: str,
    status: Status = Status.IDLE,
    *,
    age: float = 0,
    lease: float = 60,
    protected: bool = False,
    current_image: bool = False,
    built: bool = True,
    generation: int = 0,
    claim_id: UUID | None = None,
    reason: str | None = None,
) -> str:
    """Insert an instance in any status, with what that status demands."""
    held = status in (Status.CLAIMING, Status.CLAIMED, Status.PENDING_ACCEPTANCE, Status.CRASHED)
    db.run(
        _INSERT,
        id=instance_id,
        status=status,
        claim_id=(claim_id or uuid4()) if held else None,
        introduced=status in (Status.CLAIMED, Status.PENDING_ACCEPTANCE, Status.CRASHED, Status.TAINTED),
        built=built,
        protected=protected,
        current_image=current_image,
        url=f"https://{instance_id}.example",
        age=age,
        lease=lease,
        generation=generation,
        reason=reason,
    )
    return instance_id


def take(db: Database, *, claim_id: UUID | None = None, excluded: tuple[str, ...] = (), **fields: Any) -> Taken | None:
    """Take an idle instance as a claim does."""
    request = ClaimRequest.model_validate(fields)
    return store.take_idle(db, claim_id or uuid4(), request, send_seconds=60, lease_seconds=120, excluded=excluded)


def query(text: str) -> Query:
    """Return a statement of a test's own."""
    return Query.parse("test", text if text.rstrip().endswith(";") else f"{text};")


def statuses(db: Database) -> dict[str, str]:
    """Return the status of every instance."""
    return {row["id"]: row["status"] for row in db.run(query("SELECT id, status FROM pool.instances"))}
