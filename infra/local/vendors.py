"""The simulators of every vendor, and the instances they host, as one process of the local stack serves them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.local import snapshot
from infra.local.gateway import Mount
from infra.local.simulators import railway
from infra.local.simulators.agentmail import AgentMailSimulator
from infra.local.simulators.bankr import BankrSimulator
from infra.local.simulators.base import Simulator
from infra.local.simulators.ghcr import GhcrSimulator
from infra.local.simulators.openrouter import OpenRouterSimulator
from infra.local.simulators.telnyx import TelnyxSimulator
from infra.runtime.machines import Machines

BOOT_SECONDS = 2.0
PROVISION_SECONDS = 0.3
RUNTIME_IMAGE = "ghcr.io/convos/agent-runtime:latest"
_KEY = "simulated"
_PROFILE = "40000000-0000-4000-8000-000000000001"
_SETTLE_SECONDS = 0.5
_SAVE_SECONDS = 2.0
_REMEMBERED_CALLS = 2000


def settings(url: str, *, given: Mapping[str, str]) -> dict[str, str]:
    """Return the settings by which the functions find the simulators at *url*.

    A vendor for which *given* has any setting of its own (a real key, say) is left alone as a whole: an address here and a key
    there would belong to different systems.
    """
    vendors: dict[str, dict[str, str]] = {
        "RAILWAY_": {
            "RAILWAY_API_URL": f"{url}/railway/graphql/v2",
            "RAILWAY_API_TOKEN": railway.TOKEN,
            "RAILWAY_PROJECT_ID": railway.PROJECT_ID,
            "RAILWAY_ENVIRONMENT_ID": railway.ENVIRONMENT_ID,
            "RAILWAY_WORKSPACE_ID": "workspace-simulated",
            "INSTANCE_URL_TEMPLATE": f"{url}/instances/{{domain}}",
        },
        "GHCR_": {"GHCR_URL": f"{url}/ghcr"},
        "OPENROUTER_": {"OPENROUTER_API_URL": f"{url}/openrouter/api/v1", "OPENROUTER_MANAGEMENT_KEY": _KEY},
        "AGENTMAIL_": {"AGENTMAIL_API_URL": f"{url}/agentmail/v0", "AGENTMAIL_API_KEY": _KEY},
        "TELNYX_": {
            "TELNYX_API_URL": f"{url}/telnyx/v2",
            "TELNYX_API_KEY": _KEY,
            "TELNYX_MESSAGING_PROFILE_ID": _PROFILE,
        },
        "BANKR_": {"BANKR_API_URL": f"{url}/bankr", "BANKR_API_KEY": _KEY},
    }
    found = {"RAILWAY_RUNTIME_IMAGE": RUNTIME_IMAGE}
    for own in vendors.values():
        if not any(given.get(name, "").strip() for name in own):
            found |= own
    return found


class Stage:
    """All simulators of a stack: opened in the worker, saved from time to time and at the end."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """*options* are those of `processes.Plan.simulators`: `snapshot` is the file that keeps the simulators' state."""
        self._file = Path(options["snapshot"])
        self._held: dict[str, Any] = {}
        self._saving = threading.Lock()

    def open(self) -> Mount:
        """Restore or make the simulators and start the timer that moves them on."""
        self._held = snapshot.load(self._file) or _made_anew()
        threading.Thread(target=self._run, name="simulators", daemon=True).start()
        return Mount(self._held)

    def close(self) -> None:
        """Keep what they hold; a second call, or one before `open`, does no harm."""
        if not self._held:
            return
        with contextlib.suppress(RuntimeError), self._saving:
            snapshot.save(self._file, self._held)

    def _run(self) -> None:
        saved_at, seen = 0.0, -1
        while True:
            time.sleep(_SETTLE_SECONDS)
            self._held["railway"].poke()
            calls = sum(len(one.calls) for one in self._simulators())
            if calls != seen and time.monotonic() - saved_at > _SAVE_SECONDS:
                self.close()
                saved_at, seen = time.monotonic(), calls
            self._forget_old_calls()

    def _simulators(self) -> list[Simulator]:
        return [one for one in self._held.values() if isinstance(one, Simulator)]

    def _forget_old_calls(self) -> None:
        for one in self._simulators():
            with one.lock:
                del one.calls[:-_REMEMBERED_CALLS]


def _made_anew() -> dict[str, Any]:
    """The wall clock is used throughout: it goes on while the stack is stopped."""
    clock = time.time
    machines = Machines(boot_seconds=BOOT_SECONDS / 4, provision_seconds=PROVISION_SECONDS, clock=clock)
    registry = GhcrSimulator()
    repository, tag = RUNTIME_IMAGE.removeprefix("ghcr.io/").split(":")
    registry.push(repository, tag)
    return {
        "instances": machines,
        "ghcr": registry,
        "railway": railway.RailwaySimulator(machines=machines, clock=clock, boot_seconds=BOOT_SECONDS),
        "openrouter": OpenRouterSimulator(management_key=_KEY),
        "agentmail": AgentMailSimulator(api_key=_KEY),
        "telnyx": TelnyxSimulator(api_key=_KEY, messaging_profile_id=_PROFILE, clock=clock),
        "bankr": BankrSimulator(partner_key=_KEY),
    }
