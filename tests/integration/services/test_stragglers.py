"""Workers that were thought dead and come back: what they still built or bought is not left behind."""

from __future__ import annotations

import pytest

from tests.world import World


def provision(world: World, instance_id: str, tool: str) -> int:
    return world.http.post(f"/provision/{instance_id}/{tool}", json={}).status_code


BOUGHT = [("email", "agentmail", "create_inbox"), ("sms", "telnyx", "create_order"), ("crypto", "bankr", "create_wallet")]


@pytest.mark.parametrize(("tool", "vendor", "operation"), BOUGHT)
def test_what_a_straggler_bought_for_an_instance_that_is_gone_is_given_up(
    world: World, tool: str, vendor: str, operation: str
) -> None:
    """P17: nobody else knows of it, for the destruction looked before it was there."""

    def overtake() -> None:
        world.let_time_pass()
        assert world.destroy("a1").status_code == 200

    world.create("a1")
    world.simulators[vendor].fail(operation, "hook", before=overtake)
    assert provision(world, "a1", tool) == 409
    assert world.inventories()[tool] == {}
    assert world.inventories() == world.tables()


def test_a_straggler_that_buys_beside_its_successor_gives_its_own_up(world: World) -> None:
    """P17: both answers name the instance's one key, and the vendor holds no other."""
    world.create("a1")
    key = next(iter(world.inventories()["openrouter"]))
    world.http.delete(f"/destroy/a1/openrouter/{key}")

    def overtake() -> None:
        world.let_time_pass()
        assert provision(world, "a1", "openrouter") == 200

    world.simulators["openrouter"].fail("create_key", "hook", before=overtake)
    assert provision(world, "a1", "openrouter") == 409
    assert len(world.inventories()["openrouter"]) == 1
    assert world.inventories() == world.tables()


def test_what_a_successor_adopted_stays_when_the_straggler_comes_back(world: World) -> None:
    """The same inbox, by the same name, is the successor's by now."""
    world.create("a1")

    def overtake() -> None:
        world.let_time_pass()
        assert provision(world, "a1", "email") == 200

    world.simulators["agentmail"].fail("create_inbox", "hook", after=overtake)
    assert provision(world, "a1", "email") == 409
    assert len(world.inventories()["email"]) == 1
    assert world.inventories() == world.tables()


def test_a_straggler_takes_down_what_it_built_after_the_end_by_itself(world: World) -> None:
    """P25: whoever asked for the destruction was told that it ended, and asks no more."""

    def overtake() -> None:
        world.let_time_pass()
        assert world.destroy("a1").status_code == 200

    world.railway.fail("serviceCreate", "hook", before=overtake)
    assert world.create("a1").json()["error"]["code"] == "destroyed"
    assert not any(world.inventories().values())
    assert world.inventories() == world.tables()


def test_a_number_of_our_stock_that_the_vendor_took_back_is_replaced(world: World) -> None:
    """P31: it would fail one instance after the other."""
    world.create("a1", "sms")
    (number,) = world.inventories()["sms"]
    world.destroy("a1")
    world.run("UPDATE services.instance_services SET available_at = now() WHERE status = 'cooling';")
    plugin = world.provision["sms"].plugin
    assert plugin is not None
    plugin.release(number)
    assert world.create("a2", "sms").status_code == 200
    assert number not in world.inventories()["sms"]
    assert world.inventories() == world.tables()


@pytest.mark.parametrize("cursor", ["abc", "-1", "1.5", "9" * 30])
def test_a_senseless_cursor_of_an_inventory_is_refused(world: World, cursor: str) -> None:
    for tool in ("openrouter", "sms"):
        assert world.http.get(f"/inventory/{tool}", params={"cursor": cursor}).status_code == 400


def test_a_tool_that_cannot_be_released_keeps_no_machine_running(world: World) -> None:
    """An outage of one vendor changes nothing but what needs that vendor."""
    world.create("a1", "email")
    world.simulators["agentmail"].fail("*", "refuse", status=503, times=None)
    assert world.destroy("a1").status_code == 202
    assert (world.inventories()["services"], world.inventories()["volumes"]) == ({}, {})
    assert len(world.inventories()["email"]) == 1
    world.heal()
    assert world.repeat(lambda: world.destroy("a1")).status_code == 200
    assert not any(world.inventories().values())


def test_a_vendor_that_takes_all_the_time_keeps_no_other_waiting(world: World) -> None:
    """Each call has time for one tool only, and the one that fails does not come first every time."""
    world.create("a1", "email", "sms")
    world.simulators["agentmail"].fail("*", "hang", times=None)
    for _ in range(6):
        assert world.destroy("a1", deadline=0.1).status_code == 202
        world.let_time_pass()
    living = world.run("SELECT tool FROM services.instance_services WHERE status IN ('intended', 'active', 'releasing');")
    assert [row["tool"] for row in living] == ["email"]
    assert world.inventories()["services"] == {}
