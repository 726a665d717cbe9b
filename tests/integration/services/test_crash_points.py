"""For every external call of create and of destroy: fail it, hang it, lose its answer, die before and after it (P17).

Whatever happened, going on leads to one instance or to none, and every vendor holds exactly what our tables say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import httpx
import pytest

from tests.world import ALL_TOOLS, Killed, World

GHCR = "ghcr"


@dataclass(frozen=True)
class Point:
    """One external call of an operation: the *skip* + 1st of that kind."""

    vendor: str
    operation: str
    skip: int


@dataclass(frozen=True)
class Accident:
    """What happens at a point."""

    mode: str
    status: int = 500
    death: str | None = None
    """`before` or `after` the vendor did the work."""
    function_only: bool = False
    """The plugin's function dies, and its caller sees a broken connection; else all of the services side dies."""

    def arrange(self, world: World, point: Point) -> None:
        """Have it happen at *point*, once."""
        world.deaths.alone = self.function_only
        hooks = {} if self.death is None else {self.death: _die}
        world.simulators[point.vendor].fail(point.operation, self.mode, status=self.status, skip=point.skip, **hooks)


def _die() -> None:
    raise Killed


ACCIDENTS = {
    "refused": Accident("refuse", status=500),
    "throttled": Accident("refuse", status=429),
    "silent": Accident("hang"),
    "done_but_500": Accident("fail_after", status=500),
    "done_but_answer_lost": Accident("lose"),
    "killed_before": Accident("hook", death="before"),
    "killed_after": Accident("hook", death="after"),
    "function_killed_before": Accident("hook", death="before", function_only=True),
    "function_killed_after": Accident("hook", death="after", function_only=True),
}
accidents = pytest.mark.parametrize("accident", ACCIDENTS.values(), ids=ACCIDENTS)


def points(world: World, do: Callable[[], httpx.Response], accident: Accident) -> list[Point]:
    """Do it once without an accident, and return each call that it makes; reads of the registry cannot kill."""
    before = len(world.calls())
    assert do().status_code == 200
    found: list[Point] = []
    for vendor, operation in world.calls()[before:]:
        if vendor == GHCR and accident.death is not None:
            continue
        skip = sum((point.vendor, point.operation) == (vendor, operation) for point in found)
        found.append(Point(vendor, operation, skip))
    assert len(found) > 5
    return found


def attempt(do: Callable[[], httpx.Response]) -> None:
    """Do it once; the accident may be seen in the answer, or end the process."""
    try:
        answer = do()
    except Killed:
        return
    assert answer.status_code in (200, 202), answer.text


def agree(world: World, point: Point) -> None:
    """Vendors hold what our tables say, no more and no less."""
    assert world.inventories() == world.tables(), point


def nothing_but_stock(world: World, point: Point, *, numbers: int) -> None:
    """Vendors hold nothing of ours but the numbers in our stock, of which none was bought in vain."""
    agree(world, point)
    held = world.inventories()
    assert len(held.pop("sms")) <= numbers, point
    assert not any(held.values()), point


def deployments(world: World, instance_id: str) -> int:
    placed = world.run("SELECT service_id FROM services.instances WHERE id = :id;", id=instance_id)
    return len(world.railway.deployments_of(placed[0]["service_id"]))


@accidents
def test_a_creation_goes_on_after_an_accident_at_any_call_and_builds_one_instance(world: World, accident: Accident) -> None:
    """P14, P15, P16, P17: one service, volume, domain, deployment; one of each tool; then nothing is left after destroying."""
    for number, point in enumerate(points(world, partial(world.create, "i0", *ALL_TOOLS), accident), start=1):
        instance_id = f"i{number}"
        accident.arrange(world, point)
        attempt(partial(world.create, instance_id, *ALL_TOOLS))
        world.heal()
        world.repeat(partial(world.create, instance_id, *ALL_TOOLS))
        agree(world, point)
        assert deployments(world, instance_id) == 1, point
        assert {tool: len(held) for tool, held in world.inventories().items()} == dict.fromkeys(
            world.inventories(), number + 1
        ) | {"services": 2, "volumes": 2, "domains": 2, "openrouter": 2, "email": 2, "crypto": 2}, point
        world.repeat(partial(world.destroy, instance_id))
        agree(world, point)
    world.repeat(partial(world.destroy, "i0"))
    nothing_but_stock(world, point, numbers=number + 1)


@accidents
def test_a_creation_given_up_after_an_accident_at_any_call_leaves_nothing(world: World, accident: Accident) -> None:
    """P17, P25: destroying finds what a lost answer bought, by its name."""
    everything = points(world, partial(world.create, "i0", *ALL_TOOLS), accident)
    world.repeat(partial(world.destroy, "i0"))
    for number, point in enumerate(everything, start=1):
        accident.arrange(world, point)
        attempt(partial(world.create, f"i{number}", *ALL_TOOLS))
        world.heal()
        world.repeat(partial(world.destroy, f"i{number}"))
        nothing_but_stock(world, point, numbers=number + 1)


@accidents
def test_a_destruction_goes_on_after_an_accident_at_any_call_and_leaves_nothing(world: World, accident: Accident) -> None:
    """P25, P30: a row ends only when its vendor confirmed, and what is gone already is success."""
    world.repeat(partial(world.create, "i0", *ALL_TOOLS))
    for number, point in enumerate(points(world, partial(world.destroy, "i0"), accident), start=1):
        instance_id = f"i{number}"
        world.repeat(partial(world.create, instance_id, *ALL_TOOLS))
        accident.arrange(world, point)
        attempt(partial(world.destroy, instance_id))
        world.heal()
        done = world.repeat(partial(world.destroy, instance_id)).json()
        assert set(done["released"]) == {"openrouter", "wallet", *ALL_TOOLS}
        assert all(done["released"].values())
        nothing_but_stock(world, point, numbers=number + 1)


@pytest.mark.parametrize("name", ["refused", "done_but_answer_lost", "killed_after", "function_killed_after"])
def test_going_on_meets_the_same_accident_again_and_still_ends(world: World, name: str) -> None:
    """The second attempt takes other ways (it looks things up first): an accident at each of its calls is survived too."""
    accident = ACCIDENTS[name]
    first = Point("railway", "serviceDomainCreate", 0)
    for number in range(1, 14):
        instance_id = f"i{number}"
        ACCIDENTS["done_but_answer_lost"].arrange(world, first)
        attempt(partial(world.create, instance_id, *ALL_TOOLS))
        world.heal()
        vendor = ("railway", "openrouter", "agentmail", "telnyx", "bankr")[number % 5]
        again = Point(vendor, "*", number // 5)
        for _ in range(2):
            world.let_time_pass()
            accident.arrange(world, again)
            attempt(partial(world.create, instance_id, *ALL_TOOLS))
            world.heal()
        world.repeat(partial(world.create, instance_id, *ALL_TOOLS))
        agree(world, again)
        assert deployments(world, instance_id) == 1
        world.repeat(partial(world.destroy, instance_id))
        nothing_but_stock(world, again, numbers=number)
