"""Keeps what the simulators hold over a restart of the stack, in one file.

Without it a kept database would meet an empty Railway, and every instance would be lost. Recorded calls and arranged failures
are not kept. Only files that we wrote ourselves are read: whoever can write there can run code.
"""

from __future__ import annotations

import io
import itertools
import pickle
import threading
from collections.abc import Mapping
from copyreg import __newobj__ as new_object  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from infra.local.simulators import railway_state
from infra.local.simulators.base import Simulator, _map_of
from infra.local.simulators.railway import RailwaySimulator

FORMAT = 1
_MADE_ANEW = ("lock", "calls", "faults", "_map")
_LOCK = type(threading.Lock())
_REENTRANT_LOCK = type(threading.RLock())


def save(file: Path, held: Mapping[str, Any]) -> None:
    """Write *held*; a reader finds the old content or the new one. RuntimeError when something changed meanwhile."""
    content = io.BytesIO()
    _Pickler(content).dump((FORMAT, dict(held)))
    draft = file.with_suffix(".new")
    draft.write_bytes(content.getvalue())
    draft.chmod(0o600)
    draft.replace(file)


def load(file: Path) -> dict[str, Any] | None:
    """Return what was saved, or None when there is nothing, or nothing that this version can read."""
    try:
        version, held = pickle.loads(file.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, TypeError, ValueError, KeyError):
        return None
    return dict(held) if version == FORMAT else None


class _Pickler(pickle.Pickler):
    """Knows how to keep simulators, and the locks and counters inside them, which pickle does not."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Simulator):
            state = {name: value for name, value in vars(thing).items() if name not in _MADE_ANEW}
            return new_object, (type(thing),), state, None, None, _revive
        if isinstance(thing, _LOCK):
            return threading.Lock, ()
        if isinstance(thing, _REENTRANT_LOCK):
            return threading.RLock, ()
        if isinstance(thing, itertools.count):
            return itertools.count, (int(repr(thing)[len("count(") : -1]),)
        return NotImplemented


def _revive(simulator: Simulator, state: dict[str, Any]) -> None:
    """Give a simulator its state back, and make anew what was not kept."""
    vars(simulator).update(state)
    simulator.lock = threading.RLock()
    simulator.calls, simulator.faults = [], []
    simulator._map = _map_of(simulator.routes)
    if isinstance(simulator, RailwaySimulator):
        _continue_numbering(simulator)


def _continue_numbering(railway: RailwaySimulator) -> None:
    """New rows come after the kept ones in every listing."""
    world = railway.world
    tables: tuple[Mapping[Any, Any], ...] = (
        world.projects,
        world.environments,
        world.services,
        world.instances,
        world.volumes,
        world.domains,
    )
    highest = max((row.order for rows in tables for row in rows.values()), default=0)
    deployments = (deployment.order for instance in world.instances.values() for deployment in instance.deployments)
    railway_state._sequence = itertools.count(max(highest, *deployments, 0) + 1)
