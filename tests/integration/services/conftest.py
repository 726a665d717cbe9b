"""The services side on a database of the test's own, over simulators in process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.services.stage import Stage
from tests.world import World, build


@pytest.fixture
def stage(database_url: str) -> Iterator[Stage]:
    """A services side without instances."""
    made = Stage(database_url)
    yield made
    made.close()


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    """The whole services side with every vendor, without instances."""
    made = build(database_url)
    yield made
    made.close()
