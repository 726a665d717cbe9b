"""What a bare machine may lack: skipped by name, or required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(name: str) -> NoReturn:
    """Skip the test because *name* is missing, or fail it when REQUIRE says that it must be there."""
    if name in {part.strip() for part in os.environ.get("REQUIRE", "").split(",")}:
        pytest.fail(f"needs {name}, which REQUIRE names")
    pytest.skip(f"needs {name}")
