"""What the simulators hold survives a restart of the stack."""

from pathlib import Path

import httpx

from infra.local import snapshot, vendors
from infra.local.simulators import railway
from infra.local.simulators.openrouter import OpenRouterSimulator
from infra.runtime.machines import Machines


def keys_of(simulator: OpenRouterSimulator) -> httpx.Client:
    headers = {"Authorization": "Bearer management"}
    return httpx.Client(transport=httpx.WSGITransport(app=simulator), base_url="http://vendor/api/v1", headers=headers)


def test_a_vendor_s_resources_are_still_there_and_new_ones_can_be_bought(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    before = OpenRouterSimulator(management_key="management")
    keys_of(before).post("/keys", json={"name": "convos-agent-local-one"}).raise_for_status()
    before.fail("list_keys", "refuse")
    snapshot.save(file, {"openrouter": before})
    found = snapshot.load(file)
    assert found is not None
    after = found["openrouter"]
    assert after.inventory() == before.inventory()
    assert [key["name"] for key in keys_of(after).get("/keys").raise_for_status().json()["data"]] == ["convos-agent-local-one"]
    keys_of(after).post("/keys", json={"name": "convos-agent-local-two"}).raise_for_status()
    assert len(after.inventory()) == 2


def test_railway_and_its_machines_go_on_together(tmp_path: Path) -> None:
    machines = Machines()
    before = railway.RailwaySimulator(machines=machines, boot_seconds=0.0)
    before.add_service("convos-agent-local-one", image="ghcr.io/convos/agent-runtime:latest")
    before.poke()
    snapshot.save(tmp_path / "kept", {"railway": before, "instances": machines})
    found = snapshot.load(tmp_path / "kept")
    assert found is not None
    assert found["instances"].domains() == machines.domains()
    assert found["railway"].inventory() == before.inventory()
    service_id = found["railway"].add_service("convos-agent-local-two")
    orders = [row.order for row in found["railway"].world.services.values()]
    assert orders == sorted(set(orders)), "a new row comes last in every listing"
    assert service_id in found["railway"].world.services


def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"not a pickle")
    assert snapshot.load(tmp_path / "kept") is None
    assert snapshot.load(tmp_path / "absent") is None


def test_the_whole_stage_can_be_kept_and_is_private(tmp_path: Path) -> None:
    stage = vendors.Stage({"snapshot": str(tmp_path / "kept")})
    stage.open()
    stage.close()
    assert snapshot.load(tmp_path / "kept") is not None
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o600
