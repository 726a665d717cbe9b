"""Both sides in process, on a database of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import pool_world
from tests.pool_world import Pool


@pytest.fixture
def make_pool(database_url: str) -> Iterator[Callable[..., Pool]]:
    """Build a pool with settings of the test's own, cold."""
    made: list[Pool] = []

    def make(**settings: Any) -> Pool:
        made.append(pool_world.build(database_url, **settings))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def pool(make_pool: Callable[..., Pool]) -> Pool:
    """A pool whose three instances are idle."""
    made = make_pool()
    made.warm_up()
    return made
