"""Every read and write of the pool schema: each function wraps one query of `queries.sql` and returns frozen models.

A write takes a `Session`: the database itself (one statement, its own transaction) or an open transaction; a verb decides
which. A pure read takes the `Database`, which asks once more when its connection turns out to be dead (P48).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from shared.api.pool import ClaimRequest
from shared.api.services import Configured, HandOver, Settled
from shared.db import Database, Session, load_queries
from shared.pool.lifecycle import UNCLAIMED, Status
from shared.pool.models import Census, ExpiredLease, Instance, Limits, Supply, Taken, Unfinished
from shared.pool.settings import PoolSettings

QUERIES = load_queries(__file__)
Row = Mapping[str, Any]
DEFAULT_START_SECONDS = 60.0
"""How long an instance takes to become ready before we have measured it."""


# --- claims


def take_idle(
    db: Session, claim_id: UUID, request: ClaimRequest, *, send_seconds: float, lease_seconds: float, excluded: Sequence[str]
) -> Taken | None:
    """Take the next idle instance for a claim, or None when there is none that is free at this moment."""
    rows = db.run(
        QUERIES["take_idle"],
        claim_id=claim_id,
        send_seconds=send_seconds,
        lease_seconds=lease_seconds,
        excluded=list(excluded),
        owner_id=request.owner_id,
        agent_name=request.agent_name,
        instructions=request.instructions,
        join_url=request.join_url,
        model=request.model,
        metadata=None if request.metadata is None else json.dumps(request.metadata),
    )
    return Taken(**rows[0]) if rows else None


def complete_claim(db: Session, instance_id: str, generation: int, answer: Configured | Settled, *, actor: str) -> bool:
    """Record an introduction; False when the instance is no longer being claimed under that generation (P8)."""
    pending = answer.status is HandOver.PENDING_ACCEPTANCE
    return bool(
        db.run(
            QUERIES["complete_claim"],
            instance_id=instance_id,
            generation=generation,
            status=Status.PENDING_ACCEPTANCE if pending else Status.CLAIMED,
            conversation_id=answer.conversation_id,
            invite_url=answer.invite_url,
            joined=answer.joined,
            actor=actor,
        )
    )


def set_aside(db: Session, instance_id: str, generation: int, *, to: Status, reason: str, claim_id: UUID, actor: str) -> bool:
    """End an attempt without success; False when the instance has moved on meanwhile."""
    return bool(
        db.run(
            QUERIES["set_aside"],
            instance_id=instance_id,
            generation=generation,
            status=to,
            introduced=to is Status.TAINTED,
            reason=reason,
            claim_id=claim_id,
            actor=actor,
        )
    )


def fail_claim(db: Session, claim_id: UUID, instance_id: str, generation: int, *, problem: str) -> bool:
    """Record that a claim got no instance; False when it is no longer at that attempt."""
    query = QUERIES["fail_claim"]
    return bool(db.run(query, claim_id=claim_id, instance_id=instance_id, generation=generation, problem=problem))


def fail_abandoned_claims(db: Session, *, older_than_seconds: float) -> int:
    """Close open claims of that age for which no instance is held any more; returns how many."""
    return len(db.run(QUERIES["fail_abandoned_claims"], seconds=older_than_seconds))


def look_at_supply(db: Database, *, excluded: Sequence[str]) -> Supply:
    """Tell how many are idle after all, and when the next one is likely to be, from measured starts."""
    row = db.read(QUERIES["look_at_supply"], excluded=list(excluded))[0]
    usual = float(row["usual_start_seconds"] or DEFAULT_START_SECONDS)
    under_way = float(row["oldest_start_seconds"] or 0.0)
    # One that takes longer than usual tells nothing: then the next one counts from now.
    estimated = usual - under_way if under_way < usual else usual
    stopped = row["paused"] and row["oldest_start_seconds"] is None
    return Supply(idle=row["idle"], estimated_seconds=None if stopped else max(1.0, estimated))


def read_claim(db: Database, claim_id: UUID) -> Row | None:
    """Read one claim."""
    rows = db.read(QUERIES["read_claim"], claim_id=claim_id)
    return rows[0] if rows else None


# --- the tick


def take_lease(db: Session, name: str, holder: UUID, *, seconds: float) -> bool:
    """Take exclusive work; False while somebody else has it."""
    return bool(db.run(QUERIES["take_lease"], name=name, holder=holder, seconds=seconds))


def begin_tick(db: Session) -> int:
    """Open a tick's record, closing those that were cut off."""
    return int(db.run(QUERIES["begin_tick"])[0]["id"])


def finish_tick(db: Session, tick_id: int, holder: UUID, *, outcome: str, record: Mapping[str, object]) -> None:
    """Close a tick's record and give the lease back, in one statement."""
    fields = {name: json.dumps(record[name], default=str) for name in ("seen", "decided", "done", "warnings")}
    db.run(QUERIES["finish_tick"], tick_id=tick_id, holder=holder, outcome=outcome, **fields)


def list_ticks(db: Database, *, most: int) -> list[Row]:
    """Read the latest ticks, newest first."""
    return list(db.read(QUERIES["list_ticks"], most=most))


def list_to_observe(db: Database, instance_ids: Sequence[str] | None) -> list[Instance]:
    """Read what observations are compared with."""
    ids = None if instance_ids is None else list(instance_ids)
    return [Instance.from_row(row) for row in db.read(QUERIES["list_to_observe"], instance_ids=ids)]


def apply_observations(db: Session, rows: Sequence[Row], *, actor: str) -> dict[str, Status]:
    """Write observations and moves, each if its row still is what was read; returns the new status of those written."""
    written = db.run(QUERIES["apply_observations"], rows=json.dumps(list(rows), default=_iso), actor=actor)
    return {row["id"]: Status(row["after"]) for row in written}


def _iso(value: Any) -> str:
    return str(value.isoformat())


def list_expired_leases(db: Database) -> list[ExpiredLease]:
    """Read the claims that did not finish in time, the longest overdue first."""
    return [ExpiredLease(**row) for row in db.read(QUERIES["list_expired_leases"])]


def retire_unusable(db: Session, *, actor: str) -> int:
    """Ask for the end of what can never be handed out; returns how many."""
    return len(db.run(QUERIES["retire_unusable"], actor=actor))


def retire_surplus(db: Session, settings: PoolSettings, *, actor: str) -> int:
    """Retire the oldest available instances after the target was lowered; returns how many."""
    return len(db.run(QUERIES["retire_surplus"], min_idle=settings.pool_min_idle, actor=actor))


def lock_limits(db: Session, settings: PoolSettings) -> Limits:
    """Read the limits in force and keep other creators waiting until the transaction ends (P19)."""
    return _limits(db.run(QUERIES["lock_settings"])[0], settings)


def read_limits(db: Database, settings: PoolSettings) -> Limits:
    """Read the limits in force."""
    return _limits(db.read(QUERIES["read_settings"])[0], settings)


def _limits(row: Row, settings: PoolSettings) -> Limits:
    def chosen(name: str, default: int) -> int:
        value: int | None = row[name]
        return default if value is None else value

    return Limits(
        version=row["version"],
        min_idle=chosen("min_idle", settings.pool_min_idle),
        max_instances=chosen("max_instances", settings.pool_max_instances),
        create_concurrency=chosen("create_concurrency", settings.pool_create_concurrency),
        paused=row["paused"],
        paused_reason=row["paused_reason"],
        desired_image=row["desired_image"],
    )


def begin_creations(db: Session, limits: Limits, candidates: Sequence[str], *, actor: str) -> list[str]:
    """Record the intent to build as many of *candidates* as the limits allow now; needs `lock_limits` in this transaction."""
    rows = db.run(
        QUERIES["begin_creations"],
        target=limits.min_idle,
        max_instances=limits.max_instances,
        create_concurrency=limits.create_concurrency,
        most=len(candidates),
        candidates=list(candidates),
        actor=actor,
    )
    return [row["id"] for row in rows]


def list_unfinished(db: Database, instance_ids: Sequence[str] | None = None) -> list[Unfinished]:
    """Read what is being built or taken down, the longest waiting first."""
    ids = None if instance_ids is None else list(instance_ids)
    rows = db.read(QUERIES["list_unfinished"], instance_ids=ids)
    return [Unfinished(row["id"], Status(row["status"]), row["built"], row["created_at"]) for row in rows]


def mark_worked(db: Session, instance_ids: Sequence[str]) -> None:
    """Remember what this tick worked on."""
    db.run(QUERIES["mark_worked"], instance_ids=list(instance_ids))


def record_built(db: Session, instance_id: str, *, url: str) -> None:
    """Record that a creation is finished."""
    db.run(QUERIES["record_built"], instance_id=instance_id, url=url)


def record_problem(db: Session, instance_id: str, *, status: Status, reason: str) -> None:
    """Keep the words of what holds up a creation or destruction."""
    db.run(QUERIES["record_problem"], instance_id=instance_id, status=status, reason=reason)


def record_buried(db: Session, instance_id: str) -> None:
    """Give up a creation that met a tombstone."""
    db.run(QUERIES["record_buried"], instance_id=instance_id)


def forget_destroyed(db: Session, instance_id: str, *, actor: str) -> bool:
    """Drop the row of an instance whose end is confirmed; False when another process already did (P30)."""
    return bool(db.run(QUERIES["forget_destroyed"], instance_id=instance_id, actor=actor))


def note_desired_image(db: Session, image: str) -> None:
    """Remember the desired image."""
    db.run(QUERIES["note_desired_image"], image=image)


def record_sweep(db: Session, result: Mapping[str, Any]) -> None:
    """Keep what a sweep found."""
    db.run(QUERIES["record_sweep"], result=json.dumps(result))


def list_sweeps(db: Database, *, most: int) -> list[Row]:
    """Read what the latest sweeps found, newest first."""
    return list(db.read(QUERIES["list_sweeps"], most=most))


def forget_old(db: Session) -> None:
    """Delete old records, a small batch at a time."""
    db.run(QUERIES["forget_old"])


# --- operators


def ping(db: Database) -> None:
    """Ask whether the database answers."""
    db.read(QUERIES["ping"])


def count_by_status(db: Database) -> Census:
    """Count instances, with a zero for every status that none has."""
    found = {row["status"]: row for row in db.read(QUERIES["count_by_status"])}
    starting = found.get(Status.STARTING)
    return Census(
        counts={str(status): found[status]["n"] if status in found else 0 for status in Status},
        longest_starting_seconds=float(starting["longest_seconds"]) if starting else 0.0,
    )


def list_agents(
    db: Database,
    *,
    most: int,
    statuses: Sequence[str] | None = None,
    after: tuple[str, str] | None = None,
    only: str | None = None,
) -> list[Row]:
    """Read a page of instances after the position *after* (creation time, id)."""
    return list(
        db.read(
            QUERIES["list_agents"],
            statuses=None if statuses is None else list(statuses),
            instance_id=only,
            after_created=after[0] if after else None,
            after_id=after[1] if after else None,
            most=most,
        )
    )


def list_events(db: Database, *, most: int, instance_id: str | None = None, before: int | None = None) -> list[Row]:
    """Read a page of events, newest first."""
    return list(db.read(QUERIES["list_events"], instance_id=instance_id, before=before, most=most))


def begin_kill(db: Session, instance_id: str, operation_id: UUID, *, reason: str, only_status: Status | None) -> bool:
    """Take one instance for destruction; False when it is protected, already going, or not in *only_status*."""
    query = QUERIES["begin_kill"]
    return bool(db.run(query, instance_id=instance_id, operation_id=operation_id, reason=reason, only_status=only_status))


def begin_drain(db: Session, operation_id: UUID, *, most: int) -> list[str]:
    """Take up to *most* unclaimed instances for destruction (P28)."""
    query = QUERIES["begin_drain"]
    return [row["id"] for row in db.run(query, operation_id=operation_id, statuses=sorted(UNCLAIMED), most=most)]


def begin_operation(db: Session, operation_id: UUID, *, kind: str, instance_ids: Sequence[str]) -> None:
    """Record work on instances."""
    db.run(QUERIES["begin_operation"], operation_id=operation_id, kind=kind, instance_ids=list(instance_ids))


def begin_redeployment(db: Session, operation_id: UUID, instance_id: str, *, version: int, image: str | None) -> bool:
    """Record a redeployment; False when the instance is no longer what was read."""
    query = QUERIES["begin_redeployment"]
    return bool(db.run(query, operation_id=operation_id, instance_id=instance_id, version=version, image=image))


def read_operation(db: Database, operation_id: UUID) -> Row | None:
    """Read one operation with the number of its instances on which work remains."""
    rows = db.read(QUERIES["read_operation"], operation_id=operation_id)
    return rows[0] if rows else None


def list_running_operations(db: Database, *, most: int, kind: str | None = None) -> list[Row]:
    """Read the operations that are not finished, the oldest first, with their age in seconds."""
    return list(db.read(QUERIES["list_running_operations"], kind=kind, most=most))


def find_kill(db: Database, instance_id: str) -> UUID | None:
    """Find the operation that destroys or destroyed an instance."""
    rows = db.read(QUERIES["find_kill"], instance_id=instance_id)
    return rows[0]["id"] if rows else None


def was_destroyed(db: Database, instance_id: str) -> bool:
    """Whether an instance of that id once lived and is confirmed gone."""
    return bool(db.read(QUERIES["was_destroyed"], instance_id=instance_id))


def finish_operations(db: Session) -> int:
    """Close every operation on whose instances no work remains."""
    return len(db.run(QUERIES["finish_operations"]))


def finish_operation(db: Session, operation_id: UUID, *, status: str, problem: str | None) -> None:
    """Close one operation."""
    db.run(QUERIES["finish_operation"], operation_id=operation_id, status=status, problem=problem)


def set_protected(db: Session, instance_id: str, *, protected: bool) -> bool:
    """Protect an instance or end its protection; False when it is so already, is being destroyed, or is not there."""
    return bool(db.run(QUERIES["set_protected"], instance_id=instance_id, protected=protected))


def set_paused(db: Session, *, paused: bool, reason: str | None) -> None:
    """Stop creating, or go on."""
    db.run(QUERIES["set_paused"], paused=paused, reason=reason)


def put_settings(db: Session, changes: Mapping[str, int | None], *, version: int | None) -> bool:
    """Change the settings named in *changes*; False when *version* is no longer the current one."""
    names = ("min_idle", "max_instances", "create_concurrency")
    values: dict[str, object] = {name: changes.get(name) for name in names}
    values.update({f"set_{name}": name in changes for name in names})
    return bool(db.run(QUERIES["put_settings"], version=version, details=json.dumps(dict(changes)), **values))
