"""Which process serves what, and how the processes are started, watched and stopped.

Each side runs in processes of its own, so that functions that call each other never starve each other of threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.local import child
from infra.problem import Problem
from infra.routes import Function, Table

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 8.0
GROUP_STOP_SECONDS = 1.0
_LARGEST_LOG_BYTES = 20 * 1024 * 1024
_LOG_TAIL_LINES = 8
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONDONTWRITEBYTECODE")


@dataclass(frozen=True)
class Plan:
    """What one process serves."""

    name: str
    port: int
    threads: int = 16
    local: tuple[str, ...] = ()
    """Functions that run in it."""
    remote: Mapping[str, str] = field(default_factory=dict)
    """Functions that it passes on to other processes, by address."""
    services_url: str = ""
    """Where it finds the services side, unless the settings say otherwise."""
    simulators: Mapping[str, Any] = field(default_factory=dict)
    """Not empty: it serves the simulators instead, with these options."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


def process_of(function: Function) -> str:
    """Return the name of the process that runs *function*."""
    if function.trigger == "schedule":
        return "tick"
    if function.name.startswith("provision_"):
        return "plugins"
    return function.side


def plan_functions(table: Table, *, front_port: int) -> list[Plan]:
    """Spread the functions over processes, callees first; all but the front one listen on free ports.

    Each process serves the whole table, by passing on what it does not have. The process of `instances` is told that the
    services side is at the plugins' process: calls to itself could use up its threads.
    """
    names = ("plugins", "services", "tick", "pool")
    ports = {**dict(zip(names, free_ports(len(names)), strict=True)), "pool": front_port}
    url = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    home = {function.name: process_of(function) for function in table.functions}
    return [
        Plan(
            name,
            ports[name],
            threads=32,
            local=tuple(function for function, process in home.items() if process == name),
            remote={function: url[process] for function, process in home.items() if process != name},
            services_url=url["plugins" if name == "services" else "services"],
        )
        for name in names
    ]


def environment_for(plan: Plan, table: Table, settings: Mapping[str, str]) -> dict[str, str]:
    """Return what *plan*'s process may know: as in production, only the variables that its functions declare."""
    declared = {variable for function in table.functions if function.name in plan.local for variable in function.variables}
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    known = {"SERVICES_URL": plan.services_url, **settings}
    chosen = {name: value for name, value in known.items() if name in declared}
    return {**inherited, **chosen, "PYTHONPATH": str(ROOT)}


class Processes:
    """The running processes. Their output goes to `<logs>/<name>.log`. Call every method from the main thread."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, tuple[Plan, dict[str, str]]] = {}

    def start(self, plan: Plan, environment: Mapping[str, str]) -> None:
        """Start one process; it ends when we do, however we end."""
        log = self.log_of(plan.name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > _LARGEST_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            command = [sys.executable, "-m", "infra.local.serve", json.dumps(asdict(plan))]
            self._running[plan.name] = child.spawn(command, environment=environment, output=output)
        self._started[plan.name] = (plan, dict(environment))

    def start_again(self, name: str) -> None:
        """Start a process that has ended as it was started before; what it left of itself is ended first."""
        _end_group(self._running[name].pid)
        plan, environment = self._started[name]
        self.start(plan, environment)

    def wait_until_ready(self, plans: Iterable[Plan]) -> None:
        """Return when each process answers HTTP; Problem with its last words when one ends or stays silent instead."""
        deadline = time.monotonic() + START_SECONDS
        for plan in plans:
            while not _answers(plan.url):
                self._check()
                if time.monotonic() > deadline:
                    raise Problem(
                        f"The process {plan.name} did not answer within {START_SECONDS:.0f} s; see {self.log_of(plan.name)}"
                    )
                time.sleep(0.05)

    def _check(self) -> None:
        for name in self._running:
            if (status := self.status(name)) is not None:
                raise Problem(f"The process {name} ended with status {status}; its last words:\n{self.tail(name)}")

    def status(self, name: str) -> int | None:
        """Return the exit status of a process that has ended, or None while it runs."""
        return self._running[name].poll()

    def is_ready(self, name: str) -> bool:
        """Whether it answers HTTP."""
        return _answers(self._started[name][0].url)

    def names(self) -> list[str]:
        """Return the names of all of them, in the order in which they were started."""
        return list(self._running)

    def stop(self) -> None:
        """End all of them, callers first; twice is fine."""
        running, self._running = self._running, {}
        for process in reversed(running.values()):
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def log_of(self, name: str) -> Path:
        """Return the file that holds a process's output."""
        return self._logs / f"{name}.log"

    def tail(self, name: str) -> str:
        """Return the last lines that a process wrote."""
        lines = self.log_of(name).read_text(errors="replace").strip().splitlines()
        return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:])


def _end_group(leader: int) -> None:
    """End what is left of a process's group after it died: its worker, which still holds the port; in order, then by force."""
    deadline = time.monotonic() + GROUP_STOP_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(leader, 0)
            time.sleep(0.02)
        os.killpg(leader, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def require_free(port: int) -> None:
    """Raise Problem when somebody else listens on *port*."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Problem(f"Port {port} cannot be used ({error.strerror}); choose another one with --port.") from None


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(url + "/_ready", timeout=2.0).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True
