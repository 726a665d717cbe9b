"""The life of an instance in the table: who works on it, which step is due, where it was placed, and its tombstone.

Every function is one statement on the database's clock. A lease is given back by the statement that records how the work
ended, never by cleaning up: a killed process cleans nothing up, and its lease runs out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from shared.db import Row, Session, load_queries
from shared.errors import ConflictError
from shared.services.hosting.base import Placement
from shared.services.models import Instance, SealedSecrets, State

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
TOMBSTONE_DAYS = 30


def read(db: Session, instance_id: str) -> Instance | None:
    """Read one instance, whatever its state."""
    rows = db.run(QUERIES["read"], instance_id=instance_id)
    return _instance(rows[0]) if rows else None


def insert(
    db: Session,
    instance_id: str,
    *,
    name: str,
    title: str | None,
    tools: Sequence[str],
    step: str,
    placement: Placement,
    secrets: SealedSecrets,
    worker: UUID,
    lease_seconds: float,
) -> bool:
    """Write down that an instance is to be built, as its worker; False when there is a row of that id already."""
    rows = db.run(
        QUERIES["insert"],
        instance_id=instance_id,
        name=name,
        title=title,
        tools=list(tools),
        step=step,
        topology=placement.topology,
        project_id=placement.project_id,
        environment_id=placement.environment_id,
        gateway_token=secrets.gateway_token,
        gateway_token_hash=secrets.gateway_token_hash,
        setup_password=secrets.setup_password,
        services_token=secrets.services_token,
        services_token_hash=secrets.services_token_hash,
        worker=worker,
        lease_seconds=lease_seconds,
    )
    return bool(rows)


def take_worker(db: Session, instance_id: str, *, state: State, worker: UUID, lease_seconds: float) -> bool:
    """Become the one worker of an instance in *state*; False when somebody else is, or when it rests after a failure."""
    return bool(db.run(QUERIES["take_worker"], instance_id=instance_id, state=state, worker=worker, lease_seconds=lease_seconds))


def begin_step(db: Session, instance_id: str, *, worker: UUID, step: str, lease_seconds: float) -> bool:
    """Note that *step* is about to be done; False when there is a tombstone, or the instance is somebody else's by now."""
    return bool(db.run(QUERIES["begin_step"], instance_id=instance_id, worker=worker, step=step, lease_seconds=lease_seconds))


def finish_step(
    db: Session, instance_id: str, *, worker: UUID, next_step: str, placement: Placement | None
) -> tuple[State, bool]:
    """Note the end of a step, and where it placed something; returns the state found, and whether we are still the worker.

    A placement is kept in every state: what a step built for an instance that was buried meanwhile is thereby known to its
    destruction, which goes on even if it had ended.
    """
    placed = placement or Placement(topology="")
    row = db.run(
        QUERIES["finish_step"],
        instance_id=instance_id,
        worker=worker,
        next_step=next_step,
        placed=placement is not None,
        topology=placed.topology or None,
        project_id=placed.project_id,
        environment_id=placed.environment_id,
        service_id=placed.service_id,
        volume_id=placed.volume_id,
        domain=placed.domain,
    )[0]
    return State(row["state"]), row["ours"]


def finish_creation(db: Session, instance_id: str, *, worker: UUID, image: str) -> bool:
    """Note that the deployment was committed; False when there is a tombstone, or the instance is somebody else's by now."""
    return bool(db.run(QUERIES["finish_creation"], instance_id=instance_id, worker=worker, image=image))


def give_back(db: Session, instance_id: str, *, worker: UUID) -> None:
    """Stop working without a failure."""
    db.run(QUERIES["give_back"], instance_id=instance_id, worker=worker)


def record_failure(db: Session, instance_id: str, *, worker: UUID, state: State, problem: str, pause_seconds: float) -> None:
    """Note why the work in *state* stopped, and stop; it rests for *pause_seconds*, unless other work is due meanwhile."""
    db.run(
        QUERIES["record_failure"],
        instance_id=instance_id,
        worker=worker,
        state=state,
        problem=problem,
        pause_seconds=pause_seconds,
    )


def bury(db: Session, instance_id: str, *, name: str, step: str) -> None:
    """Write a tombstone, for an unknown id too; the first one stays as it is."""
    try:
        db.run(QUERIES["bury"], instance_id=instance_id, name=name, step=step)
    except ConflictError:
        # Somebody inserted the same id at this moment, and the index on names noticed first. Now there is a row to bury.
        db.run(QUERIES["bury"], instance_id=instance_id, name=name, step=step)


def begin_destroying(db: Session, instance_id: str, *, worker: UUID, step: str, lease_seconds: float) -> bool:
    """Note that *step* of a destruction is about to be done; False when it is somebody else's by now."""
    return bool(
        db.run(QUERIES["begin_destroying"], instance_id=instance_id, worker=worker, step=step, lease_seconds=lease_seconds)
    )


def finish_destruction(db: Session, instance_id: str, *, worker: UUID, removed: Placement) -> bool:
    """Note that everything is gone and wipe the secrets; False when more than *removed* was placed, bought, or it is not ours."""
    return bool(
        db.run(
            QUERIES["finish_destruction"],
            instance_id=instance_id,
            worker=worker,
            project_id=removed.project_id,
            service_id=removed.service_id,
            volume_id=removed.volume_id,
        )
    )


def list_abandoned(db: Session, *, age_seconds: float, count: int) -> list[str]:
    """Return destructions asked for longer than *age_seconds* ago on which nobody works."""
    return [row["id"] for row in db.run(QUERIES["list_abandoned"], age_seconds=age_seconds, count=count)]


def forget_buried(db: Session, *, count: int) -> list[str]:
    """Delete up to *count* tombstones that are older than 30 days; returns their ids."""
    return [row["id"] for row in db.run(QUERIES["forget_buried"], days=TOMBSTONE_DAYS, count=count)]


def read_services_token_hash(db: Session, instance_id: str) -> bytes | None:
    """Read what a living instance's own services token is recognised by."""
    rows = db.run(QUERIES["read_services_token"], instance_id=instance_id)
    return bytes(rows[0]["services_token_hash"]) if rows else None


def _instance(row: Row) -> Instance:
    return Instance(
        id=row["id"],
        name=row["name"],
        state=State(row["state"]),
        tools=tuple(row["tools"]),
        step=row["step"],
        step_begun=row["step_begun"],
        problem=row["problem"],
        failures=row["failures"],
        placement=Placement(
            topology=row["topology"] or "",
            project_id=row["project_id"],
            environment_id=row["environment_id"],
            service_id=row["service_id"],
            volume_id=row["volume_id"],
            domain=row["domain"],
        ),
        launched_image=row["launched_image"],
        gateway_token=row["gateway_token"],
        setup_password=row["setup_password"],
        services_token=row["services_token"],
        wait_seconds=row["wait_seconds"],
        busy=bool(row["busy"]),
    )
