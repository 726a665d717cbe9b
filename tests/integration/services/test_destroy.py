"""Taking an instance down: everything goes, each part confirmed, once, and never forgotten before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import httpx
import pytest
from pydantic import SecretStr

from shared.api.services import Working
from shared.services import destroy
from shared.services.tools_api import ToolsApi
from tests.world import ALL_TOOLS, SERVICES_KEY, World


def deletions(world: World) -> list[str]:
    return [operation for _, operation in world.calls() if "elete" in operation or operation == "close_wallet"]


def test_everything_is_released_and_the_secrets_are_wiped(world: World) -> None:
    world.create("a1", *ALL_TOOLS)
    answer = world.destroy("a1")
    assert answer.status_code == 200
    assert answer.json() == {
        "instanceId": "a1",
        "released": dict.fromkeys(["openrouter", "wallet", *ALL_TOOLS], True),
        "hosting": True,
    }
    assert world.inventories() == world.tables()
    row = world.run("SELECT * FROM services.instances;")[0]
    assert row["state"] == "destroyed"
    assert not any(row[name] for name in ("gateway_token", "gateway_token_hash", "setup_password", "services_token", "worker"))
    assert world.run("SELECT id FROM services.instance_services WHERE variables IS NOT NULL;") == []


def test_destroying_again_answers_the_same_and_deletes_nothing_twice(world: World) -> None:
    """P30."""
    world.create("a1", *ALL_TOOLS)
    first = world.destroy("a1")
    deleted = deletions(world)
    again = world.destroy("a1")
    assert (again.status_code, again.json()) == (200, first.json())
    assert deletions(world) == deleted
    assert len(deleted) == len(set(deleted))


def test_two_destructions_at_once_delete_once_and_both_end_in_200(world: World) -> None:
    """P30."""
    world.create("a1", *ALL_TOOLS)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: world.destroy("a1"), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert world.destroy("a1").status_code == 200
    assert len(deletions(world)) == len(set(deletions(world)))


def test_building_and_destroying_at_once_ends_destroyed(world: World) -> None:
    """Whoever writes first: the tombstone stands at the end, and nothing else."""
    for number in range(25):
        with ThreadPoolExecutor(8) as threads:
            asked = [threads.submit(world.create if n % 2 else world.destroy, f"a{number}") for n in range(8)]
        assert {one.result().status_code for one in asked} <= {200, 202, 409}
        assert {one.result().json()["error"]["code"] for one in asked if one.result().status_code == 409} <= {"destroyed"}
        world.repeat(partial(world.destroy, f"a{number}"))
    assert not any(world.inventories().values())


def test_an_unknown_instance_is_gone_and_can_not_be_built_any_more(world: World) -> None:
    answer = world.destroy("never-built")
    assert answer.json() == {"instanceId": "never-built", "released": {}, "hosting": True}
    assert world.create("never-built").json()["error"]["code"] == "destroyed"


@pytest.mark.parametrize(
    ("vendor", "operation", "left"),
    [
        ("openrouter", "delete_key", "openrouter"),
        ("agentmail", "delete_inbox", "email"),
        ("bankr", "close_wallet", "crypto"),
        ("railway", "serviceDelete", "services"),
        ("railway", "volumeDelete", "volumes"),
    ],
)
def test_what_a_vendor_refuses_to_delete_is_not_forgotten(world: World, vendor: str, operation: str, left: str) -> None:
    """P25: the row stays, the failure is visible, the rest is released, and it is tried again, more and more slowly."""
    world.create("a1", *ALL_TOOLS)
    world.simulators[vendor].fail(operation, "refuse", status=403, times=None)
    answer = world.destroy("a1")
    assert answer.status_code == 202
    assert answer.json()["status"] == "destroying"
    assert answer.json()["problem"]
    assert len(world.inventories()[left]) == 1
    shown = world.http.get("/resources/a1").json()
    assert shown["state"] == "destroying"
    assert shown["problem"] == answer.json()["problem"]
    if vendor != "railway":
        line = next(line for line in shown["tools"] if line["tool"] == left)
        assert (line["status"], bool(line["reason"])) == ("releasing", True)
        others = [line["status"] for line in shown["tools"] if line["tool"] != left]
        assert others == ["released"] * len(others)
    pauses = []
    for _ in range(3):
        world.let_time_pass()
        pauses.append(world.destroy("a1").json()["retryAfterSeconds"])
    assert pauses == sorted(pauses)
    assert pauses[-1] > 10
    world.heal()
    assert world.repeat(lambda: world.destroy("a1")).status_code == 200
    assert world.inventories() == world.tables()


def test_what_is_gone_already_is_success(world: World) -> None:
    """P25: somebody deleted it by hand."""
    world.create("a1", *ALL_TOOLS)
    for tool in ("openrouter", "email", "crypto"):
        plugin = world.provision[tool].plugin
        assert plugin is not None
        for resource_id in world.inventories()[tool]:
            plugin.release(resource_id)
    placed = world.run("SELECT * FROM services.instances;")[0]
    world.services.host.remove(placed["name"], world.services.host.place())
    assert world.destroy("a1").status_code == 200
    assert world.inventories() == world.tables()


def test_an_outage_of_everything_forgets_nothing(world: World) -> None:
    """P33."""
    world.create("a1", *ALL_TOOLS)
    held = world.inventories()
    for simulator in world.simulators.values():
        simulator.fail("*", "refuse", status=503, times=None)
    assert world.destroy("a1").status_code == 202
    world.heal()
    assert {**world.inventories(), "sms": {}} == {**held, "sms": {}}
    assert world.repeat(lambda: world.destroy("a1")).status_code == 200
    assert world.inventories() == world.tables()


@pytest.mark.parametrize("answer", [b'{"error": {"code": "no_route", "message": "?"}}', b"<html>not here</html>", b""])
def test_a_wrong_address_of_the_services_side_forgets_nothing(world: World, answer: bytes) -> None:
    """P25: a 404 of somebody who does not know the path is no confirmation."""
    world.create("a1", "email")

    def somebody_else(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, content=answer)

    tools = ToolsApi("http://wrong", SecretStr(SERVICES_KEY), transport=httpx.MockTransport(somebody_else))
    found = destroy.destroy("a1", replace(world.services, tools=tools), deadline_seconds=20)
    assert isinstance(found, Working)
    assert found.problem
    assert len(world.inventories()["email"]) == 1
    assert world.repeat(lambda: world.destroy("a1")).status_code == 200
    assert not any(world.inventories().values())


def test_a_short_deadline_releases_one_tool_at_a_time(world: World) -> None:
    world.create("a1", "email")
    answers = 0
    while world.destroy("a1", deadline=0.1).status_code == 202:
        answers += 1
    assert answers == 3
    assert not any(world.inventories().values())


def test_old_tombstones_are_forgotten_a_few_at_a_time_with_their_ledger(world: World) -> None:
    world.create("a1", "sms")
    world.destroy("a1")
    world.run("UPDATE services.instances SET destroyed_at = now() - interval '29 days';")
    world.destroy("a2")
    assert len(world.run("SELECT id FROM services.instances;")) == 2
    world.run("UPDATE services.instances SET destroyed_at = now() - interval '31 days' WHERE id = 'a1';")
    world.destroy("a3")
    assert [row["id"] for row in world.run("SELECT id FROM services.instances ORDER BY id;")] == ["a2", "a3"]
    assert [row["status"] for row in world.run("SELECT status FROM services.instance_services;")] == ["cooling"]


@pytest.mark.parametrize("deadline", ["0", "-1", "301", "soon", "nan", "inf"])
def test_a_senseless_deadline_is_refused_before_a_tombstone_is_written(world: World, deadline: str) -> None:
    answer = world.http.delete("/destroy/a1", params={"deadlineSeconds": deadline})
    assert answer.status_code == 400
    assert world.run("SELECT id FROM services.instances;") == []


def test_an_impossible_id_is_refused(world: World) -> None:
    assert world.http.delete("/destroy/a%20b").status_code == 400


def test_a_destruction_that_nobody_asks_for_any_more_is_carried_on_by_the_sweep(world: World) -> None:
    """P17, P25: a late worker reopened the tombstone and died; the pool side has forgotten the instance."""
    world.repeat(lambda: world.create("a"))
    world.railway.fail("serviceDelete", "refuse", times=None)
    assert world.destroy("a").status_code == 202
    world.heal()
    world.let_time_pass()
    world.http.post("/sweep", json={}).raise_for_status()
    assert world.inventories() != {what: {} for what in world.inventories()}, "somebody may still be asking"
    world.run("UPDATE services.instances SET destroy_asked_at = now() - interval '1 hour';")
    world.let_time_pass()
    world.http.post("/sweep", json={}).raise_for_status()
    assert world.inventories() == {what: {} for what in world.inventories()}
    assert world.run("SELECT state FROM services.instances;") == [{"state": "destroyed"}]
