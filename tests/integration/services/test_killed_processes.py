"""The same as in `test_crash_points`, with real processes: the functions under gunicorn, killed by SIGKILL at chosen calls."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from infra.local.gateway import Mount
from tests.world import SERVICES_KEY, World, build, environment

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = [f"provision_{tool}" for tool in ("openrouter", "wallet", "email", "sms", "crypto")]


class Quiet(WSGIRequestHandler):
    """Logs nothing."""

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        pass


@dataclass
class Machine:
    """A process group that serves some functions on a port, and can be killed and started again."""

    local: list[str]
    remote: dict[str, str]
    settings: dict[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        plan = {
            "name": self.local[0],
            "port": self.port,
            "threads": 8,
            "local": self.local,
            "remote": self.remote,
            "simulators": None,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.serve", json.dumps(plan)],
            cwd=ROOT,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **self.settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                httpx.get(f"{self.url}/nothing", timeout=5, trust_env=False)
                return
            time.sleep(0.05)
        raise AssertionError("the functions did not start")

    def kill(self) -> None:
        """As a machine that loses its power: no signal handler, no `finally`."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@dataclass
class Site:
    """A world whose functions run in two machines: one with `instances`, one with the plugins."""

    world: World
    instances: Machine
    plugins: Machine
    client: httpx.Client
    killed: threading.Event = field(default_factory=threading.Event)

    def ask(self, method: str, path: str, json: object = None) -> httpx.Response | None:
        """Ask once; None when the machine died meanwhile."""
        try:
            return self.client.request(method, path, json=json)
        except httpx.HTTPError:
            return None

    def finish(self, method: str, path: str, json: object = None) -> None:
        """Start what was killed, and ask until 200."""
        for machine in (self.plugins, self.instances):
            if machine.process is None or machine.process.poll() is not None:
                machine.start()
        for _ in range(6):
            self.world.let_time_pass()
            answer = self.ask(method, path, json)
            if answer is not None and answer.status_code == 200:
                return
        raise AssertionError(f"still not finished: {answer}")


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    """Two machines with the functions, and this process with the vendors."""
    world = build(database_url)
    server = make_server("127.0.0.1", 0, Mount(world.simulators), threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    vendors = f"http://127.0.0.1:{server.port}"
    settings = environment(database_url)
    for vendor, path in (("RAILWAY", "/graphql/v2"), ("OPENROUTER", "/api/v1"), ("AGENTMAIL", "/v0"), ("BANKR", "")):
        settings[f"{vendor}_API_URL"] = f"{vendors}/{vendor.lower()}{path}"
    settings["GHCR_URL"] = f"{vendors}/ghcr"
    ports = _free_ports(2)
    settings["SERVICES_URL"] = f"http://127.0.0.1:{ports[0]}"
    plugins = Machine(PLUGINS, {}, settings, ports[1])
    instances = Machine(["instances"], dict.fromkeys(PLUGINS, plugins.url), settings, ports[0])
    plugins.start()
    instances.start()
    client = httpx.Client(
        base_url=instances.url, headers={"Authorization": f"Bearer {SERVICES_KEY}"}, timeout=30, trust_env=False
    )
    yield Site(world, instances, plugins, client)
    client.close()
    for machine in (instances, plugins):
        machine.kill()
    server.shutdown()
    server.server_close()
    world.close()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _killing(site: Site, *victims: Machine) -> Callable[[], None]:
    def kill() -> None:
        for victim in victims:
            victim.kill()
        site.killed.set()

    return kill


def test_machines_killed_at_chosen_calls_leave_what_the_next_call_goes_on_with(site: Site) -> None:
    """P14, P17, P25: whatever dies, before or after the vendor did the work, one instance is built and nothing is left."""
    building = [
        ("railway", "volumeCreate", "after", (site.instances,)),
        ("openrouter", "create_key", "after", (site.plugins,)),
        ("agentmail", "create_key", "before", (site.plugins, site.instances)),
        ("railway", "environmentPatchCommit", "after", (site.instances,)),
    ]
    removing = [
        ("openrouter", "delete_key", "before", (site.plugins,)),
        ("bankr", "close_wallet", "after", (site.plugins, site.instances)),
        ("railway", "serviceDelete", "after", (site.instances,)),
    ]
    body = {"instanceId": "i1", "tools": ["email", "crypto"], "deadlineSeconds": 60}
    _survive(site, building, "POST", "/create-instance", body)
    assert site.world.inventories() == site.world.tables()
    (service_id,) = site.world.inventories()["services"]
    assert len(site.world.railway.deployments_of(service_id)) == 1
    assert {tool: len(held) for tool, held in site.world.inventories().items()} == {
        **dict.fromkeys(("services", "volumes", "domains", "openrouter", "email", "crypto"), 1),
        "sms": 0,
    }
    _survive(site, removing, "DELETE", "/destroy/i1?deadlineSeconds=60", None)
    assert site.world.inventories() == site.world.tables()
    assert not any(site.world.inventories().values())


def _survive(site: Site, deaths: list[tuple[str, str, str, tuple[Machine, ...]]], method: str, path: str, body: object) -> None:
    """Ask once for each death, which happens at its call; then go on to the end."""
    for vendor, operation, when, victims in deaths:
        for machine in (site.plugins, site.instances):
            if machine.process is None or machine.process.poll() is not None:
                machine.start()
        site.killed.clear()
        site.world.let_time_pass()
        hook = {when: _killing(site, *victims)}
        site.world.simulators[vendor].fail(operation, "hook", **hook)
        site.ask(method, path, body)
        assert site.killed.wait(10), (vendor, operation)
        site.world.heal()
    site.finish(method, path, body)
