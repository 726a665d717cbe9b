"""Every vendor of the contract suite: its simulator, the settings that lead there, and how to tell that a grant works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from infra.local.simulators.agentmail import AgentMailSimulator
from infra.local.simulators.bankr import BankrSimulator
from infra.local.simulators.base import Simulator
from infra.local.simulators.openrouter import OpenRouterSimulator
from infra.local.simulators.telnyx import TelnyxSimulator
from shared.remote import Retry
from shared.services import names
from shared.services.plugins import PLUGINS
from shared.services.plugins.base import Grant, Held, Plugin
from shared.services.plugins.telnyx import Telnyx, TelnyxSettings
from shared.settings import load, reveal

NAME = names.make("test", "a1")
OURS = "ours-4711-secret"
QUICK = Retry(attempts=3, first_pause_seconds=0.001)
ONCE = Retry(attempts=1)
FAILURES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("refuse", {"status": 500}),
    ("refuse", {"status": 429}),
    ("hang", {}),
    ("fail_after", {"status": 500}),
    ("lose", {}),
)


@dataclass
class Clock:
    """Time that passes only when somebody waits."""

    now: float = 0.0

    def read(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Vendor:
    """A tool's simulator, the settings that lead to it, and how to tell that a grant works there."""

    tool: str
    environment: Mapping[str, str]
    simulator: Simulator | None
    works: Callable[[Grant], bool]
    clock: Clock = field(default_factory=Clock)

    def plugin(self, retry: Retry = QUICK) -> Plugin:
        transport = httpx.WSGITransport(self.simulator) if self.simulator is not None else None
        if self.tool == "sms":
            settings = load(TelnyxSettings, self.environment)
            return Telnyx.build(settings, transport=transport, retry=retry, pause=self.clock.wait)
        return PLUGINS[self.tool].build(self.environment, transport=transport, retry=retry)

    def held(self) -> dict[str, Any]:
        return self.simulator.inventory() if self.simulator is not None else {}


def ask(simulator: Simulator, path: str, headers: Mapping[str, str]) -> int:
    with httpx.Client(transport=httpx.WSGITransport(simulator), base_url="http://vendor") as client:
        return client.get(path, headers=dict(headers)).status_code


def bearer(grant: Grant, variable: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {reveal(grant.variables[variable])}"}


def openrouter() -> Vendor:
    simulator = OpenRouterSimulator(management_key=OURS, page_size=12)
    environment = {"OPENROUTER_API_URL": "http://vendor/api/v1", "OPENROUTER_MANAGEMENT_KEY": OURS}
    return Vendor(
        "openrouter",
        environment,
        simulator,
        lambda grant: ask(simulator, "/api/v1/key", bearer(grant, "OPENROUTER_API_KEY")) == 200,
    )


def wallet() -> Vendor:
    return Vendor("wallet", {}, None, lambda grant: reveal(grant.variables["PRIVATE_WALLET_KEY"]).startswith("0x"))


def email() -> Vendor:
    simulator = AgentMailSimulator(api_key=OURS)

    def works(grant: Grant) -> bool:
        path = f"/v0/inboxes/{grant.resource_id}"
        return ask(simulator, path, bearer(grant, "AGENTMAIL_API_KEY")) == 200 and len(simulator.key_names()) == 1

    return Vendor("email", {"AGENTMAIL_API_URL": "http://vendor/v0", "AGENTMAIL_API_KEY": OURS}, simulator, works)


def sms() -> Vendor:
    clock = Clock()
    simulator = TelnyxSimulator(
        api_key=OURS, messaging_profile_id="profile-1", order_seconds=2, messaging_seconds=2, clock=clock.read
    )
    environment = {
        "TELNYX_API_URL": "http://vendor/v2",
        "TELNYX_API_KEY": OURS,
        "TELNYX_MESSAGING_PROFILE_ID": "profile-1",
    }
    return Vendor("sms", environment, simulator, lambda grant: simulator.profiles()[grant.resource_id] == "profile-1", clock)


def crypto() -> Vendor:
    simulator = BankrSimulator(partner_key=OURS)

    def works(grant: Grant) -> bool:
        headers = {"X-API-Key": reveal(grant.variables["BANKR_API_KEY"])}
        return ask(simulator, "/wallet/me", headers) == 200 and len(simulator.keys()) == 1

    return Vendor("crypto", {"BANKR_API_URL": "http://vendor", "BANKR_API_KEY": OURS}, simulator, works)


VENDORS: dict[str, Callable[[], Vendor]] = {
    "openrouter": openrouter,
    "wallet": wallet,
    "email": email,
    "sms": sms,
    "crypto": crypto,
}


def provision(plugin: Plugin, name: str = NAME, *, doubtful: bool = False) -> Grant:
    return plugin.provision(name, attempt=1, doubtful=doubtful)


def calls_of(tool: str, act: Callable[[Vendor], object]) -> int:
    vendor = VENDORS[tool]()
    act(vendor)
    assert vendor.simulator is not None
    return len(vendor.simulator.operations())


def everything(plugin: Plugin) -> list[Held]:
    found: list[Held] = []
    cursor: str | None = None
    for _ in range(1000):
        page = plugin.inventory(cursor)
        found.extend(page.held)
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise AssertionError("the inventory has no end")
