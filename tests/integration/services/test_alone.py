"""Many creations at once in one environment: what races there takes turns, and a turn whose holder died runs out."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.world import World

RACING = ("serviceDomainCreate", "environmentPatchCommit")


def test_domains_and_commits_of_one_environment_never_overlap(world: World) -> None:
    """Railway's race between them; everything else of eight creations goes on side by side."""
    inside: list[int] = []
    counted = threading.Lock()
    running = 0

    def begin() -> None:
        nonlocal running
        with counted:
            running += 1
            inside.append(running)
        time.sleep(0.01)

    def end() -> None:
        nonlocal running
        with counted:
            running -= 1

    for operation in RACING:
        world.railway.fail(operation, "hook", times=None, before=begin, after=end)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(world.create, [f"a{number}" for number in range(8)]))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert inside == [1] * 16
    assert world.inventories() == world.tables()
    assert world.run("SELECT name FROM services.leases;") == []


def test_a_turn_whose_holder_died_holds_up_nobody_for_ever(world: World) -> None:
    """The creation waits for its end, goes on, and leaves it free."""
    world.create("a0")
    world.run(
        "INSERT INTO services.leases SELECT 'environment:' || environment_id, gen_random_uuid(), now() + interval '0.5 s'"
        " FROM services.instances;"
    )
    began = time.monotonic()
    assert world.create("a1").status_code == 200
    assert 0.3 < time.monotonic() - began < 5
    assert world.run("SELECT name FROM services.leases;") == []
