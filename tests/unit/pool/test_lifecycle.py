"""The statuses and moves, and everything that must agree with them."""

from __future__ import annotations

import re
from pathlib import Path

from shared.pool.lifecycle import AVAILABLE, CLAIMED, MOVES, UNUSABLE, Status, is_legal

ROOT = Path(__file__).parents[3]


def test_every_status_has_its_moves() -> None:
    assert set(MOVES) == set(Status)


def test_every_status_can_be_reached_and_can_end() -> None:
    reachable = {Status.STARTING}
    while True:
        more = {after for before in reachable for after in MOVES[before]} | reachable
        if more == reachable:
            break
        reachable = more
    assert reachable == set(Status)
    assert all(is_legal(status, Status.DESTROYING) for status in Status if status is not Status.DESTROYING)


def test_what_somebody_may_have_spoken_to_never_becomes_available() -> None:
    """P3, P39: only proof of clean makes an instance idle again, and there is no such move from these."""
    spoken_to = CLAIMED | {Status.TAINTED, Status.CRASHED, Status.DEAD, Status.DESTROYING}
    assert not [(before, after) for before in spoken_to for after in MOVES[before] if after in AVAILABLE]


def test_what_is_unusable_can_only_end() -> None:
    assert all(MOVES[status] == {Status.DESTROYING} for status in UNUSABLE)


def test_the_database_knows_exactly_these_statuses() -> None:
    text = (ROOT / "infra/migrations/pool/0001_pool.sql").read_text()
    check = re.search(r"status\s+text NOT NULL CHECK \(status IN \(([^)]*)\)\)", text)
    assert check is not None
    assert set(re.findall(r"'(\w+)'", check[1])) == set(Status)


def test_the_diagram_in_the_architecture_shows_exactly_these_moves() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = set(re.findall(r"^ {4}(\w+) --> (\w+)$", text, re.MULTILINE))
    assert drawn == {(str(before), str(after)) for before, moves in MOVES.items() for after in moves}
