"""The ledger's own rules: what the table refuses whoever asks, and what is sealed in it."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from shared.errors import AppError, ConflictError, ConstraintError
from shared.services.models import LedgerRow, LedgerStatus, State
from shared.services.store import instances, ledger
from shared.settings import reveal
from tests.world import World

LEASE = 60.0


def intend(world: World, instance_id: str, worker: UUID, *, tool: str = "email") -> LedgerRow | None:
    return ledger.intend(
        world.db, instance_id, tool, name=f"name-of-{instance_id}", attempt=1, worker=worker, lease_seconds=LEASE
    )


@pytest.fixture
def living(world: World) -> str:
    assert world.create("a1").status_code == 200
    return "a1"


def test_a_purchase_is_intended_once(world: World, living: str) -> None:
    row = intend(world, living, uuid4())
    assert row is not None
    assert row.status is LedgerStatus.INTENDED
    assert intend(world, living, uuid4()) is None


def test_nothing_is_intended_for_a_tombstone_or_an_unknown_instance(world: World) -> None:
    instances.bury(world.db, "a1", name="name", step="tools")
    assert intend(world, "a1", uuid4()) is None
    assert intend(world, "unknown", uuid4()) is None


def test_a_line_has_one_worker_until_its_lease_runs_out(world: World, living: str) -> None:
    row = intend(world, living, first := uuid4())
    assert row is not None
    assert ledger.resume(world.db, row, worker=uuid4(), lease_seconds=LEASE) is None
    assert ledger.begin_release(world.db, row, worker=uuid4(), lease_seconds=LEASE) is None
    world.let_time_pass()
    assert ledger.resume(world.db, row, worker=(second := uuid4()), lease_seconds=LEASE) is not None
    assert ledger.activate(world.db, row, worker=first, resource_id="r1", variables=None) is None
    assert ledger.activate(world.db, row, worker=second, resource_id="r1", variables=None) is State.CREATED


def test_recording_a_purchase_tells_of_a_tombstone_written_meanwhile(world: World, living: str) -> None:
    row = intend(world, living, worker := uuid4())
    assert row is not None
    instances.bury(world.db, living, name="name", step="tools")
    assert ledger.activate(world.db, row, worker=worker, resource_id="r1", variables=None) is State.DESTROYING


def test_one_resource_never_belongs_to_two_instances(world: World, living: str) -> None:
    world.create("a2")
    worker = uuid4()
    first, second = intend(world, living, worker), intend(world, "a2", worker)
    assert first is not None
    assert second is not None
    ledger.activate(world.db, first, worker=worker, resource_id="r1", variables=None)
    with pytest.raises(ConflictError):
        ledger.activate(world.db, second, worker=worker, resource_id="r1", variables=None)


@pytest.mark.parametrize(
    "nonsense",
    [
        "status = 'active', resource_id = NULL",
        "status = 'cooling'",
        "status = 'bought'",
        "instance_id = NULL",
        "worker = NULL",
        "attempt = 0",
        "variables = 'sealed'",
    ],
)
def test_the_table_refuses_nonsense(world: World, living: str, nonsense: str) -> None:
    assert intend(world, living, uuid4()) is not None
    with pytest.raises(ConstraintError):
        world.run(f"UPDATE services.instance_services SET {nonsense} WHERE status = 'intended';")


@pytest.mark.parametrize(
    "nonsense",
    [
        "state = 'destroyed'",
        "state = 'destroying'",
        "state = 'gone'",
        "service_id = NULL",
        "worker_expires_at = now()",
        "state = 'destroyed', destroy_asked_at = now(), destroyed_at = now()",
    ],
)
def test_the_table_of_instances_refuses_nonsense(world: World, living: str, nonsense: str) -> None:
    with pytest.raises(ConstraintError):
        world.run(f"UPDATE services.instances SET {nonsense};")


def test_what_a_tool_grants_is_sealed_for_its_instance_alone(world: World, living: str) -> None:
    granted = {"KEY": SecretStr("very-secret")}
    sealed = ledger.seal_variables(granted, world.services.ring, instance_id=living, tool="email")
    assert sealed is not None
    assert "very-secret" not in sealed
    row = intend(world, living, worker := uuid4())
    assert row is not None
    ledger.activate(world.db, row, worker=worker, resource_id="r1", variables=sealed)
    found = ledger.granted_variables(world.db, world.services.ring, instance_id=living)
    assert reveal(found["KEY"]) == "very-secret"
    world.create("a2")
    other = intend(world, "a2", worker)
    assert other is not None
    ledger.activate(world.db, other, worker=worker, resource_id="r2", variables=sealed)
    with pytest.raises(AppError, match="altered or moved"):
        ledger.granted_variables(world.db, world.services.ring, instance_id="a2")


def test_a_line_of_the_ledger_prints_no_secret(world: World, living: str) -> None:
    """P43."""
    row = instances.read(world.db, living)
    assert row is not None
    assert row.gateway_token is not None
    assert row.gateway_token not in repr(row)
