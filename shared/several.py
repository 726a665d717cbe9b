"""Do the same for many, several at a time, each under the trace of the request that asked for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def several(step: Callable[[Item], Result], items: Sequence[Item], *, at_once: int) -> list[Result]:
    """Return what *step* returns for each item, in their order. What it raises is raised once all have ended."""
    if not items:
        return []
    with ThreadPoolExecutor(max(1, min(at_once, len(items)))) as threads:
        futures = [threads.submit(copy_context().run, step, item) for item in items]
    return [future.result() for future in futures]
