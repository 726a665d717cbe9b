"""What only Telnyx does: numbers that collide, take their time, and are found again by their label (P24)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.local.simulators.telnyx import TelnyxSimulator
from shared.errors import RemoteRefusedError, RemoteUnavailableError
from shared.remote import NO_RETRY
from shared.services import names
from shared.services.plugins.telnyx import Telnyx, TelnyxSettings
from shared.settings import load, reveal

NAME = names.make("test", "a1")
HEIR = names.make("test", "b2")
ENVIRONMENT = {
    "TELNYX_API_URL": "http://vendor/v2",
    "TELNYX_API_KEY": "ours",
    "TELNYX_MESSAGING_PROFILE_ID": "profile-1",
}


class World:
    """A simulator, a plugin, and a clock that moves when the plugin waits."""

    def __init__(self, *, buying_seconds: float = 45.0, **options: Any) -> None:
        self.now = 0.0
        self.waited: list[float] = []
        self.on_wait: Callable[[], None] = lambda: None
        self.simulator = TelnyxSimulator(
            api_key="ours", messaging_profile_id="profile-1", clock=lambda: self.now, **{"order_seconds": 2, **options}
        )
        settings = load(TelnyxSettings, ENVIRONMENT)
        transport = httpx.WSGITransport(self.simulator)
        self.plugin = Telnyx.build(settings, transport=transport, retry=NO_RETRY, pause=self.wait, buying_seconds=buying_seconds)

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.now += seconds
        self.on_wait()

    def buy(self, name: str = NAME, *, doubtful: bool = False) -> str:
        return self.plugin.provision(name, attempt=1, doubtful=doubtful).resource_id

    def count(self, operation: str) -> int:
        return self.simulator.operations().count(operation)


def test_a_number_is_ordered_with_its_messaging_profile_and_label() -> None:
    """P24: a number without a profile is voice-only."""
    world = World()
    number = world.buy()
    (order,) = world.simulator._orders.values()
    assert (order["messaging_profile_id"], order["customer_reference"]) == ("profile-1", NAME)
    assert world.simulator.profiles() == {number: "profile-1"}


def test_an_instance_is_told_its_number_and_profile_and_no_key() -> None:
    """P42."""
    grant = World().plugin.provision(NAME, attempt=1, doubtful=False)
    assert {name: reveal(value) for name, value in grant.variables.items()} == {
        "TELNYX_PHONE_NUMBER": grant.resource_id,
        "TELNYX_MESSAGING_PROFILE_ID": "profile-1",
    }


def test_a_number_that_somebody_else_took_meanwhile_is_searched_again() -> None:
    """P24."""
    world = World()
    world.simulator.fail("create_order", "hook", before=world.simulator.sell_to_another, times=2)
    number = world.buy()
    assert world.simulator.inventory() == {number: NAME}
    assert world.count("search") == 3


@pytest.mark.parametrize(
    ("status", "code"), [(409, "10012"), (422, "10027"), (422, "85001"), (400, "85000"), (400, "85001"), (422, "85006")]
)
def test_a_conflict_on_order_is_searched_again(status: int, code: str) -> None:
    """P24."""
    world = World()
    world.simulator.fail("create_order", "refuse", status=status, body={"errors": [{"code": code, "title": "x"}]})
    number = world.buy()
    assert world.simulator.inventory() == {number: NAME}


@pytest.mark.parametrize(("status", "code"), [(422, "20100"), (403, "20100"), (422, "85005"), (400, "10004"), (403, "10010")])
def test_a_refusal_that_no_other_number_would_change_is_told_at_once(status: int, code: str) -> None:
    world = World()
    world.simulator.fail("create_order", "refuse", status=status, body={"errors": [{"code": code, "title": "x"}]})
    with pytest.raises(RemoteRefusedError) as caught:
        world.buy()
    assert caught.value.remote_code == code
    assert world.count("search") == 1


def test_a_search_for_ever_ends() -> None:
    world = World()
    world.simulator.fail("create_order", "refuse", status=422, times=None)
    with pytest.raises(RemoteUnavailableError):
        world.buy()
    assert world.count("create_order") == 5


def test_slow_purchases_do_not_add_up_beyond_the_lease_of_who_makes_them() -> None:
    world = World(buying_seconds=0.03, latency_seconds=0.01)
    world.simulator.fail("create_order", "refuse", status=422, times=None)
    with pytest.raises(RemoteUnavailableError, match="took too long"):
        world.buy()
    assert 1 <= world.count("create_order") < 5


def test_nothing_on_offer_is_unavailable() -> None:
    with pytest.raises(RemoteUnavailableError):
        World(stock=0).buy()


def test_an_order_that_fails_is_placed_again_for_another_number() -> None:
    world = World()
    world.simulator.failing_orders = 1
    number = world.buy()
    assert world.simulator.inventory() == {number: NAME}
    assert world.count("create_order") == 2


def test_a_number_that_messaging_does_not_know_yet_is_asked_again() -> None:
    """P24."""
    world = World(messaging_seconds=8)
    number = world.buy()
    assert world.simulator.profiles() == {number: "profile-1"}
    assert world.count("update_messaging") > 1


def test_waiting_is_bounded_and_the_next_doubtful_call_goes_on_with_the_same_number() -> None:
    world = World(order_seconds=40)
    with pytest.raises(RemoteUnavailableError):
        world.buy()
    assert sum(world.waited) < 30
    (ordered,) = world.simulator.inventory()
    world.now += 100
    assert world.buy(doubtful=True) == ordered
    assert world.simulator.inventory() == {ordered: NAME}


def test_a_lost_order_is_found_among_the_orders_even_without_a_label_on_its_number() -> None:
    """P17."""
    world = World()
    world.simulator.fail("create_order", "lose")
    with pytest.raises(RemoteUnavailableError):
        world.buy()
    (row,) = world.simulator._numbers.values()
    row["customer_reference"] = None
    assert world.buy(doubtful=True) == row["phone_number"]
    assert world.simulator.inventory() == {row["phone_number"]: NAME}
    assert world.count("create_order") == 1


def test_a_lost_order_that_failed_is_not_waited_for() -> None:
    world = World()
    world.simulator.failing_orders = 1
    world.simulator.fail("create_order", "lose")
    with pytest.raises(RemoteUnavailableError):
        world.buy()
    number = world.buy(doubtful=True)
    assert world.simulator.inventory() == {number: NAME}


def test_an_old_order_never_takes_back_a_number_that_belongs_to_another_instance_now() -> None:
    """P31: the order still carries our label, the number carries its new owner's."""
    world = World()
    number = world.buy()
    world.plugin.assign(number, HEIR)
    again = world.buy(doubtful=True)
    assert again != number
    assert world.simulator.inventory() == {number: HEIR, again: NAME}


def test_an_old_order_of_a_number_that_was_given_back_is_no_number() -> None:
    world = World()
    number = world.buy()
    world.plugin.release(number)
    again = world.buy(doubtful=True)
    assert again != number
    assert world.simulator.inventory() == {again: NAME}


def test_of_two_numbers_under_one_name_one_is_given_back() -> None:
    world = World()
    first, second = world.buy(), world.buy()
    assert world.buy(doubtful=True) in (first, second)
    assert len(world.simulator.inventory()) == 1


def test_a_number_that_is_no_longer_ours_cannot_be_assigned() -> None:
    world = World()
    number = world.buy()
    world.plugin.release(number)
    with pytest.raises(RemoteRefusedError) as caught:
        world.plugin.assign(number, HEIR)
    assert caught.value.http_status == 404


def test_a_number_is_told_from_one_that_only_contains_its_digits() -> None:
    world = World()
    number = world.buy()
    part = number[:-1]
    assert world.plugin.is_gone(part) is True
    world.plugin.release(part)
    assert list(world.simulator.inventory()) == [number]


def test_twelve_buyers_at_once_get_twelve_numbers() -> None:
    """P24: they choose by chance from one batch, and search again where they collide."""
    world = World(order_seconds=0, messaging_seconds=0)
    settings, transport = load(TelnyxSettings, ENVIRONMENT), httpx.WSGITransport(world.simulator)
    bought: list[str] = []

    def buy(number: int) -> None:
        buyer = Telnyx.build(settings, transport=transport, retry=NO_RETRY, pause=lambda seconds: None)
        bought.append(buyer.provision(names.make("test", f"n{number}"), attempt=1, doubtful=False).resource_id)

    threads = [threading.Thread(target=buy, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(bought)) == len(bought) == 12
    assert sorted(bought) == sorted(world.simulator.inventory())


def test_an_inventory_of_several_pages_is_read_in_as_many_calls() -> None:
    """P34, P35."""
    world = World(order_seconds=0, messaging_seconds=0)
    for number in range(251):
        world.buy(names.make("test", f"n{number}"))
    before = world.count("list_numbers")
    first = world.plugin.inventory(None)
    second = world.plugin.inventory(first.next_cursor)
    assert second.next_cursor is None
    assert {held.resource_id for page in (first, second) for held in page.held} == set(world.simulator.inventory())
    assert world.count("list_numbers") - before == 2


def test_a_number_that_cannot_be_labelled_yet_is_not_handed_out_without_its_label() -> None:
    """P24."""
    world = World()
    number = world.buy()
    world.simulator.fail("update_number", "refuse", status=404)
    world.plugin.assign(number, HEIR)
    assert world.simulator.inventory() == {number: HEIR}
