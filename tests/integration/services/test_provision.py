"""The functions of the plugins: bought once, released once, our own stock of numbers, and who may ask."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.world import World, build

TOOLS = ("openrouter", "wallet", "email", "sms", "crypto")


def provision(world: World, instance_id: str, tool: str, **body: Any) -> httpx.Response:
    return world.http.post(f"/provision/{instance_id}/{tool}", json=body)


def release(world: World, instance_id: str, tool: str, resource: str) -> httpx.Response:
    return world.http.delete(f"/destroy/{instance_id}/{tool}/{quote(resource, safe='')}")


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_tool_given_twice_is_bought_once(world: World, tool: str) -> None:
    world.create("a1")
    first = provision(world, "a1", tool)
    assert (first.status_code, first.json()["tool"], first.json()["status"]) == (200, tool, "active")
    called = world.calls()
    assert provision(world, "a1", tool).json() == first.json()
    assert world.calls() == called
    assert world.inventories() == world.tables()


def test_a_tool_is_released_once_and_the_answer_can_be_asked_for_again(world: World, tool: str) -> None:
    world.create("a1")
    resource = provision(world, "a1", tool).json()["resourceId"]
    first = release(world, "a1", tool, resource)
    assert (first.status_code, first.json()) == (200, {"tool": tool, "resourceId": resource, "status": "released"})
    called = world.calls()
    assert release(world, "a1", tool, resource).json() == first.json()
    assert world.calls() == called
    assert world.inventories() == world.tables()


def test_what_an_instance_never_had_is_not_found(world: World, tool: str) -> None:
    world.create("a1")
    world.create("a2")
    resource = provision(world, "a1", tool).json()["resourceId"]
    assert release(world, "a2", tool, resource).status_code == 404
    assert release(world, "a1", tool, "no/such@thing").json()["error"]["code"] == "not_found"
    assert provision(world, "unknown", tool).status_code == 404
    assert world.inventories() == world.tables()


def test_a_tool_released_and_given_again_has_the_name_of_its_next_attempt(world: World, tool: str) -> None:
    """A vendor that gives a name once only, and a number that rests under the old one, are no obstacle."""
    world.create("a1")
    had = world.run("SELECT count(*) AS n FROM services.instance_services WHERE tool = :tool;", tool=tool)[0]["n"]
    for _ in range(2):
        resource = provision(world, "a1", tool).json()["resourceId"]
        assert release(world, "a1", tool, resource).status_code == 200
    assert provision(world, "a1", tool).status_code == 200
    rows = world.run(
        "SELECT attempt, name FROM services.instance_services WHERE tool = :tool AND instance_id = 'a1' ORDER BY id;", tool=tool
    )
    assert [row["attempt"] for row in rows] == [1, 2, 3]
    assert rows[2]["name"] == "convos-agent-test-a1.3"
    assert had in (0, 1)
    assert world.inventories() == world.tables()


def test_callers_at_once_buy_once_and_the_others_are_told_to_wait(world: World) -> None:
    world.create("a1")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: provision(world, "a1", "sms"), range(8)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.json()["error"]["code"] for answer in refused} <= {"in_progress"}
    assert all(answer.headers["Retry-After"] for answer in refused)
    assert len(world.inventories()["sms"]) == 1
    assert world.inventories() == world.tables()


def test_a_tombstone_is_given_nothing(world: World, tool: str) -> None:
    world.destroy("a1")
    called = world.calls()
    answer = provision(world, "a1", tool)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "destroyed")
    assert world.calls() == called


def test_a_failed_purchase_stands_in_the_ledger_and_is_gone_on_with(world: World) -> None:
    """P17: the intent was written before the call, and the lost purchase is adopted."""
    world.create("a1")
    world.simulators["telnyx"].fail("create_order", "lose")
    answer = provision(world, "a1", "sms")
    assert answer.status_code == 502
    line = next(line for line in world.http.get("/resources/a1").json()["tools"] if line["tool"] == "sms")
    assert (line["status"], line["resourceId"]) == ("intended", None)
    assert "Telnyx" in line["reason"]
    assert provision(world, "a1", "sms").status_code == 200
    assert len(world.inventories()["sms"]) == 1
    assert world.inventories() == world.tables()


def test_a_released_number_is_handed_out_again_after_its_rest_and_none_is_bought(world: World) -> None:
    """P31."""
    world.create("a1", "sms")
    (number,) = world.inventories()["sms"]
    world.destroy("a1")
    assert list(world.inventories()["sms"]) == [number]
    world.create("a2", "sms")
    assert len(world.inventories()["sms"]) == 2
    world.run("UPDATE services.instance_services SET available_at = now() WHERE status = 'cooling';")
    world.create("a3", "sms")
    assert world.environment_of("a3")["TELNYX_PHONE_NUMBER"] == number
    assert world.environment_of("a2")["TELNYX_PHONE_NUMBER"] != number
    assert world.inventories()["sms"][number] == "convos-agent-test-a3"
    assert len(world.inventories()["sms"]) == 2
    assert world.inventories() == world.tables()


def test_a_number_of_our_stock_goes_to_one_instance_only(world: World) -> None:
    world.create("a0", "sms")
    world.destroy("a0")
    world.run("UPDATE services.instance_services SET available_at = now() WHERE status = 'cooling';")
    ids = [f"b{number}" for number in range(4)]
    for instance_id in ids:
        world.create(instance_id)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda instance_id: provision(world, instance_id, "sms"), ids))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.json()["resourceId"] for answer in answers}) == 4
    assert len(world.inventories()["sms"]) == 4
    assert world.inventories() == world.tables()


def test_a_late_repetition_of_a_release_does_not_touch_the_numbers_next_owner(world: World) -> None:
    world.create("a1", "sms")
    (number,) = world.inventories()["sms"]
    release(world, "a1", "sms", number)
    world.run("UPDATE services.instance_services SET available_at = now() WHERE status = 'cooling';")
    world.create("a2", "sms")
    assert release(world, "a1", "sms", number).status_code == 200
    active = world.run("SELECT instance_id FROM services.instance_services WHERE tool = 'sms' AND status = 'active';")
    assert [row["instance_id"] for row in active] == ["a2"]


def test_an_instance_may_ask_for_itself_alone_and_see_no_inventory(world: World) -> None:
    """P42: its own services token acts on itself; its gateway token acts nowhere here."""
    world.create("a1")
    world.create("a2")
    variables = world.environment_of("a1")
    own = {"Authorization": f"Bearer {variables['INSTANCE_SERVICES_TOKEN']}"}
    assert world.http.post("/provision/a1/email", json={}, headers=own).status_code == 200
    (inbox,) = world.inventories()["email"]
    assert world.http.post("/provision/a2/email", json={}, headers=own).status_code == 401
    assert world.http.get("/inventory/email", headers=own).status_code == 401
    assert world.http.get("/resources/a1", headers=own).status_code == 401
    other = {"Authorization": f"Bearer {world.environment_of('a2')['INSTANCE_SERVICES_TOKEN']}"}
    assert world.http.delete(f"/destroy/a1/email/{inbox}", headers=other).status_code == 401
    gateway = {"Authorization": f"Bearer {variables['GATEWAY_TOKEN']}"}
    assert world.http.post("/provision/a1/email", json={}, headers=gateway).status_code == 401
    assert world.http.delete(f"/destroy/a1/email/{inbox}", headers=own).status_code == 200
    world.destroy("a1")
    assert world.http.post("/provision/a1/email", json={}, headers=own).status_code == 401


def test_a_configuration_is_not_silently_ignored(world: World) -> None:
    world.create("a1")
    assert provision(world, "a1", "email", userConfig={"key": "x"}).status_code == 501


def test_a_tool_without_its_key_is_refused_by_name_and_nothing_is_bought(database_url: str) -> None:
    """P18."""
    world = build(database_url, BANKR_API_KEY=None)
    world.create("a1")
    called = world.calls()
    answer = provision(world, "a1", "crypto")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_configured")
    assert "crypto" in answer.json()["error"]["message"]
    assert world.calls() == called
    tools = {tool["id"]: tool for tool in world.http.get("/registry").json()["tools"]}
    assert [tools[tool]["configured"] for tool in TOOLS] == [True, True, True, True, False]
    assert [tool for tool in TOOLS if tools[tool]["always"]] == ["openrouter", "wallet"]
    assert world.http.get("/inventory/crypto?probe=true").json()["configured"] is False
    assert world.http.get("/inventory/crypto").status_code == 503
    world.close()


def test_an_inventory_shows_what_the_vendor_holds_and_a_probe_asks_nobody(world: World) -> None:
    world.create("a1", "email")
    called = world.calls()
    assert world.http.get("/inventory/email?probe=true").json()["held"] == []
    assert world.calls() == called
    page = world.http.get("/inventory/email").json()
    assert [held["name"] for held in page["held"]] == ["convos-agent-test-a1"]
    assert page["next"] is None
    assert world.http.get("/inventory/email?probe=maybe").status_code == 400
