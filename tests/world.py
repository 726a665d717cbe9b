"""The services side in process: a real database, every vendor simulated, and its functions reached over HTTP, as in production.

The function `instances` calls the plugins' functions through the same route table and the same authorization as a deployed one;
only sockets are missing. A test arranges failures at the simulators, calls functions, and compares what vendors hold with what
our tables say.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx
from pydantic import SecretStr

from infra import routes
from infra.local.gateway import Gateway
from infra.local.simulators.agentmail import AgentMailSimulator
from infra.local.simulators.bankr import BankrSimulator
from infra.local.simulators.base import Simulator
from infra.local.simulators.ghcr import GhcrSimulator
from infra.local.simulators.openrouter import OpenRouterSimulator
from infra.local.simulators.railway import ENVIRONMENT_ID, PROJECT_ID, TOKEN, RailwaySimulator
from infra.local.simulators.telnyx import TelnyxSimulator
from infra.runtime.machines import Machines
from shared.db import Database, Query, Rows
from shared.remote import NO_RETRY
from shared.services.context import Context, ProvisionContext
from shared.services.hosting.images import GhcrSettings, ImageRegistry
from shared.services.hosting.railway import RailwayApi, RailwaySettings
from shared.services.hosting.topology import make_host
from shared.services.plugins import PLUGINS
from shared.services.plugins.base import Plugin
from shared.services.plugins.telnyx import Telnyx, TelnyxSettings
from shared.services.runtime import RuntimeClient
from shared.services.sealing import parse_ring
from shared.services.settings import ProvisionSettings, ServicesSettings
from shared.services.tools_api import ToolsApi
from shared.settings import load

ENVIRONMENT = "test"
IMAGE = "ghcr.io/convos/agent:latest"
SERVICES_KEY = "the-services-key"
PROFILE = "40000000-0000-4000-8000-000000000001"
VENDOR_KEYS = {
    "OPENROUTER_MANAGEMENT_KEY": "our-openrouter-management-key",
    "AGENTMAIL_API_KEY": "our-agentmail-key",
    "TELNYX_API_KEY": "our-telnyx-key",
    "BANKR_API_KEY": "our-bankr-partner-key",
    "RAILWAY_API_TOKEN": TOKEN,
}
ALL_TOOLS = ("email", "sms", "crypto")
_UNFINISHED = ("intended", "releasing")


class Killed(BaseException):
    """The process died here. Nothing in our code may catch it."""


@dataclass
class Deaths:
    """Whether the death of a plugin's function kills its caller too (one machine), or the caller sees a broken connection."""

    alone: bool = False


@dataclass
class World:
    """Everything a test of the services side may look at or provoke."""

    db: Database
    machines: Machines
    simulators: Mapping[str, Simulator]
    settings: Mapping[str, str]
    """The environment that the functions were built from."""
    services: Context
    provision: dict[str, ProvisionContext]
    gateway: Gateway
    """Every function of the services side behind the one route table."""
    http: httpx.Client
    """Calls the services side with its key."""
    deaths: Deaths = field(default_factory=Deaths)

    @property
    def railway(self) -> RailwaySimulator:
        """Where instances are hosted."""
        found = self.simulators["railway"]
        assert isinstance(found, RailwaySimulator)
        return found

    # --- what a caller does

    def create(self, instance_id: str, *tools: str, deadline: float = 60.0) -> httpx.Response:
        """Ask for an instance once."""
        body = {"instanceId": instance_id, "tools": list(tools), "deadlineSeconds": deadline}
        return self.http.post("/create-instance", json=body)

    def destroy(self, instance_id: str, *, deadline: float = 60.0) -> httpx.Response:
        """Ask for an instance's end once."""
        return self.http.delete(f"/destroy/{instance_id}", params={"deadlineSeconds": str(deadline)})

    def repeat(self, ask: Callable[[], httpx.Response], *, times: int = 6) -> httpx.Response:
        """Ask until 200, as the tick does minute after minute: what was leased has run out, what rested may go on."""
        for _ in range(times):
            self.let_time_pass()
            answer = ask()
            if answer.status_code == 200:
                return answer
        raise AssertionError(f"still not finished: {answer.status_code} {answer.text}")

    # --- what a test does beside that

    def run(self, sql: str, **params: object) -> Rows:
        """Run a statement of the test's own."""
        return self.db.run(Query.parse("test", sql), **params)

    def let_time_pass(self) -> None:
        """Have every lease run out, and every rest be over."""
        past = "now() - interval '1 second'"
        for table in ("instances", "instance_services"):
            self.run(f"UPDATE services.{table} SET worker_expires_at = {past} WHERE worker IS NOT NULL;")
            self.run(f"UPDATE services.{table} SET next_try_at = {past} WHERE next_try_at IS NOT NULL;")
        self.run(f"UPDATE services.leases SET expires_at = {past} WHERE name LIKE 'environment:%';")

    def heal(self) -> None:
        """End every arranged failure."""
        for simulator in self.simulators.values():
            simulator.heal()

    def calls(self) -> list[tuple[str, str]]:
        """Return every call that reached a vendor, as (vendor, operation), in order."""
        called = [(call.at, name, call.operation) for name, one in self.simulators.items() for call in one.calls]
        return [(name, operation) for _, name, operation in sorted(called)]

    def inventories(self) -> dict[str, dict[str, Any]]:
        """Return what the vendors hold for us, as {what: {id: name}}."""
        railway = self.railway.inventory()
        hosted = {what: railway[what] for what in ("services", "volumes", "domains")}
        return hosted | {tool: self.simulators[name].inventory() for tool, name in _VENDOR_OF.items()}

    def tables(self) -> dict[str, dict[str, Any]]:
        """Return what our tables say the vendors hold, in the same form; no purchase may be unfinished."""
        unfinished = self.run(
            "SELECT instance_id, tool, status FROM services.instance_services WHERE status = ANY (:unfinished);",
            unfinished=list(_UNFINISHED),
        )
        assert not unfinished
        placed = self.run("SELECT name, service_id, volume_id, domain FROM services.instances WHERE state <> 'destroyed';")
        known: dict[str, dict[str, Any]] = {
            "services": {row["service_id"]: row["name"] for row in placed if row["service_id"]},
            "volumes": {row["volume_id"]: row["service_id"] for row in placed if row["volume_id"]},
            "domains": {row["domain"]: row["service_id"] for row in placed if row["domain"]},
        }
        bought = self.run("SELECT tool, resource_id, name FROM services.instance_services WHERE status IN ('active', 'cooling');")
        for tool in _VENDOR_OF:
            known[tool] = {row["resource_id"]: row["name"] for row in bought if row["tool"] == tool}
        return known

    def environment_of(self, instance_id: str) -> Mapping[str, str]:
        """Return the variables with which an instance's machine runs."""
        self.railway.poke()
        domain = self.run("SELECT domain FROM services.instances WHERE id = :id;", id=instance_id)[0]["domain"]
        return self.machines.agent(domain).environment

    def close(self) -> None:
        """Close what was opened."""
        self.db.close()
        self.http.close()


_VENDOR_OF = {"openrouter": "openrouter", "email": "agentmail", "sms": "telnyx", "crypto": "bankr"}


def build(database_url: str, **changes: str | None) -> World:
    """Build a world; *changes* replaces settings by name, None takes one away."""
    machines = Machines()
    simulators: dict[str, Simulator] = {
        "railway": RailwaySimulator(machines=machines, boot_seconds=0),
        "ghcr": GhcrSimulator(),
        "openrouter": OpenRouterSimulator(management_key=VENDOR_KEYS["OPENROUTER_MANAGEMENT_KEY"]),
        "agentmail": AgentMailSimulator(api_key=VENDOR_KEYS["AGENTMAIL_API_KEY"]),
        "telnyx": TelnyxSimulator(
            api_key=VENDOR_KEYS["TELNYX_API_KEY"], messaging_profile_id=PROFILE, order_seconds=0, messaging_seconds=0
        ),
        "bankr": BankrSimulator(partner_key=VENDOR_KEYS["BANKR_API_KEY"]),
    }
    settings = {name: value for name, value in {**environment(database_url), **changes}.items() if value is not None}
    db = Database(SecretStr(database_url), max_connections=8)
    deaths = Deaths()
    provision = {tool: _provision_context(tool, db, settings, simulators) for tool in PLUGINS}
    gateway_of_tools = serve({f"provision_{tool}": one for tool, one in provision.items()})
    services = _context(db, settings, simulators, machines, tools=InProcess(gateway_of_tools, deaths))
    everything = serve({"instances": services} | {f"provision_{tool}": one for tool, one in provision.items()})
    http = httpx.Client(
        base_url="http://services",
        transport=InProcess(everything, Deaths()),
        headers={"Authorization": f"Bearer {SERVICES_KEY}"},
    )
    return World(db, machines, simulators, settings, services, provision, everything, http, deaths)


def environment(database_url: str) -> dict[str, str]:
    """Return the settings of the services side with every vendor at a host of its own name."""
    return {
        "SERVICES_DATABASE_URL": database_url,
        "SERVICES_API_KEY": SERVICES_KEY,
        "SERVICES_URL": "http://services",
        "POOL_URL": "http://pool",
        "POOL_ENVIRONMENT": ENVIRONMENT,
        "INSTANCE_SECRETS_KEY": f"k1:{'A' * 43}=",
        "RUNTIME_VARIABLES": '{"XMTP_ENV": "dev"}',
        "RAILWAY_RUNTIME_IMAGE": IMAGE,
        "RAILWAY_API_URL": "http://railway/graphql/v2",
        "RAILWAY_PROJECT_ID": PROJECT_ID,
        "RAILWAY_ENVIRONMENT_ID": ENVIRONMENT_ID,
        "GHCR_URL": "http://ghcr",
        "OPENROUTER_API_URL": "http://openrouter/api/v1",
        "AGENTMAIL_API_URL": "http://agentmail/v0",
        "TELNYX_API_URL": "http://telnyx/v2",
        "TELNYX_MESSAGING_PROFILE_ID": PROFILE,
        "BANKR_API_URL": "http://bankr",
        **VENDOR_KEYS,
    }


class InProcess(httpx.BaseTransport):
    """HTTP to a WSGI application in this process, with the path as it was sent, and deaths as they are seen from outside."""

    def __init__(self, application: Any, deaths: Deaths) -> None:
        self._application = application
        self._deaths = deaths

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        raw = request.url.raw_path.decode()

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            path = unquote_to_bytes(raw.partition("?")[0]).decode("latin-1")
            return self._application({**environ, "REQUEST_URI": raw, "PATH_INFO": path}, start_response)

        try:
            return httpx.WSGITransport(application).handle_request(request)
        except Killed:
            if self._deaths.alone:
                raise httpx.ReadError("the function died") from None
            raise


def serve(contexts: Mapping[str, Any]) -> Gateway:
    """Serve functions by name, each with its context, behind the one route table."""
    local = {}
    for name, context in contexts.items():
        function = getattr(importlib.import_module(f"functions.{name}.main"), name)
        local[name] = function.application.wsgi(context, name=name)
    return Gateway(routes.load(), local=local, remote={})


def _provision_context(
    tool: str, db: Database, settings: Mapping[str, str], simulators: Mapping[str, Simulator]
) -> ProvisionContext:
    own = load(ProvisionSettings, settings)
    return ProvisionContext(
        db=db, settings=own, ring=parse_ring(own.instance_secrets_key), tool=tool, plugin=_plugin(tool, settings, simulators)
    )


def _plugin(tool: str, settings: Mapping[str, str], simulators: Mapping[str, Simulator]) -> Plugin | None:
    if not PLUGINS[tool].is_configured(settings):
        return None
    if tool == "wallet":
        return PLUGINS[tool].build(settings)
    transport = httpx.WSGITransport(simulators[_VENDOR_OF[tool]])
    if tool == "sms":
        return Telnyx.build(load(TelnyxSettings, settings), transport=transport, retry=NO_RETRY, pause=lambda _: None)
    return PLUGINS[tool].build(settings, transport=transport, retry=NO_RETRY)


def _context(
    db: Database, settings: Mapping[str, str], simulators: Mapping[str, Simulator], machines: Machines, *, tools: InProcess
) -> Context:
    own = load(ServicesSettings, settings)
    railway = load(RailwaySettings, settings)
    ghcr = simulators["ghcr"]
    assert isinstance(ghcr, GhcrSimulator)
    repository, tag = IMAGE.removeprefix("ghcr.io/").split(":")
    ghcr.push(repository, tag)
    api = RailwayApi(railway, transport=httpx.WSGITransport(simulators["railway"]), retry=NO_RETRY)
    return Context(
        db=db,
        settings=own,
        ring=parse_ring(own.instance_secrets_key),
        host=make_host(railway, api),
        images=ImageRegistry(load(GhcrSettings, settings), transport=httpx.WSGITransport(ghcr)),
        runtime=RuntimeClient(transport=httpx.WSGITransport(machines)),
        tools=ToolsApi(own.services_url, own.services_api_key, transport=tools, retry=NO_RETRY),
    )
