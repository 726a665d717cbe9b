"""Many agents in one process, each at a path of its own: what Railway's edge and its containers are together.

The local stack sets `INSTANCE_URL_TEMPLATE` to `http://127.0.0.1:PORT/instances/{domain}` and mounts `Machines` at
`/instances`; a request whose host is a known domain finds its agent as well, which serves the production template in process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from infra.local.simulators.base import answer
from infra.runtime.agent import Agent

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


class Machines:
    """Starts, stops and finds agents by domain. Safe to share between threads; agents do not wait for each other."""

    def __init__(
        self, *, boot_seconds: float = 0.0, provision_seconds: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.boot_seconds = boot_seconds
        self.provision_seconds = provision_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._agents: dict[str, Agent] = {}
        self._asleep: set[str] = set()
        self._ever: list[Agent] = []

    def start(self, domain: str, environment: Mapping[str, str], image: str, *, volume: bool = True) -> Agent:
        """Run *image* at *domain*, in place of what ran there; without a *volume* the new one has lost its identity (P15)."""
        with self._lock:
            self._asleep.discard(domain)
            running = self._agents.get(domain)
            if running is not None and volume:
                running.boot(environment, image)
                return running
            agent = Agent(
                environment,
                image,
                boot_seconds=self.boot_seconds,
                provision_seconds=self.provision_seconds,
                clock=self._clock,
            )
            self._agents[domain] = agent
            self._ever.append(agent)
            return agent

    def stop(self, domain: str) -> None:
        """Run nothing at *domain* from now on; stopping twice is fine."""
        with self._lock:
            self._agents.pop(domain, None)
            self._asleep.discard(domain)

    def sleep(self, domain: str) -> None:
        """Put the agent to sleep: the next request wakes it, and is itself answered with 502 (P32)."""
        with self._lock:
            if domain in self._agents:
                self._asleep.add(domain)

    def is_asleep(self, domain: str) -> bool:
        """Whether the agent at *domain* sleeps."""
        return domain in self._asleep

    def agent(self, domain: str) -> Agent:
        """Return the agent that runs at *domain*, or raise KeyError."""
        return self._agents[domain]

    def domains(self) -> list[str]:
        """Return where agents run or sleep now."""
        with self._lock:
            return sorted(self._agents)

    def ever(self) -> list[Agent]:
        """Return every agent that ever ran, stopped ones too: what they heard is evidence."""
        with self._lock:
            return list(self._ever)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one HTTP request, by the agent that the first part of the path (or the host) names."""
        domain = environ.get("HTTP_HOST", "").partition(":")[0]
        if domain not in self._agents:
            domain, _, rest = environ.get("PATH_INFO", "").lstrip("/").partition("/")
            environ["SCRIPT_NAME"] = f"{environ.get('SCRIPT_NAME', '')}/{domain}"
            environ["PATH_INFO"] = f"/{rest}"
        agent = self._agents.get(domain)
        if agent is None:
            return _edge(404, "Application not found")(environ, start_response)
        if domain in self._asleep and self._wake(domain):
            return _edge(502, "Application failed to respond")(environ, start_response)
        return agent(environ, start_response)

    def _wake(self, domain: str) -> bool:
        with self._lock:
            if domain not in self._asleep:
                return False
            self._asleep.discard(domain)
            self._agents[domain].wake()
            return True


def _edge(status: int, message: str) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    return answer({"status": "error", "code": status, "message": message}, status)
