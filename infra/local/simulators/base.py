"""What every simulator shares: routing, a record of calls, and failures on request.

A simulator is a WSGI application: tests mount it with `httpx.WSGITransport`, the local stack serves it on a port. Its state is
in memory and guarded by `self.lock`; handlers run under that lock, delays do not. Beside the vendor's own routes it answers
`GET /_sim/calls`, `GET /_sim/inventory`, and `POST /_sim/faults` (a JSON fault, see `Fault`) for tests on the other side of a
port.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import httpx
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MODES = ("refuse", "hang", "fail_after", "lose", "hook")


@dataclass
class Fault:
    """A failure that the next matching calls meet.

    Modes: `refuse` answers *status* and does nothing; `hang` does nothing and is silent for *seconds*; `fail_after` does the
    work and answers *status*; `lose` does the work and drops the connection; `hook` runs *before* and *after* around the work
    (a test kills a process there). *operation* is an operation's name, or "*"; *skip* calls pass first, then *times* calls fail
    (None: all).
    """

    operation: str
    mode: str
    status: int = 500
    seconds: float = 0.0
    skip: int = 0
    times: int | None = 1
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None


@dataclass(frozen=True)
class Call:
    """One call that arrived: the operation, its arguments, and when (monotonic seconds)."""

    operation: str
    arguments: dict[str, Any]
    at: float


class LostConnection(httpx.ReadError):
    """The answer never arrived. In process the caller sees exactly what httpx raises for a dropped connection."""


class Simulator:
    """Base of all simulators. A subclass names its routes and writes a method per operation."""

    name = "simulator"
    routes: tuple[tuple[str, str, str], ...] = ()
    """(method, werkzeug rule, name of the method that handles it); that name is the operation of calls and faults."""

    def __init__(self, *, latency_seconds: float = 0.0) -> None:
        self.lock = threading.RLock()
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.latency_seconds = latency_seconds
        self._map = _map_of(self.routes)

    # --- for tests and the local stack

    def fail(self, operation: str, mode: str, **options: Any) -> Fault:
        """Arrange a failure (see `Fault`) and return it."""
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}")
        fault = Fault(operation, mode, **options)
        with self.lock:
            self.faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget every arranged failure."""
        with self.lock:
            self.faults.clear()

    def operations(self) -> list[str]:
        """Return the operations called so far, in order."""
        with self.lock:
            return [call.operation for call in self.calls]

    def inventory(self) -> dict[str, Any]:
        """Return what this vendor holds now; each simulator says in what form."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> Response:
        """Return an error in the vendor's own form."""
        return answer({"error": {"message": message}}, status)

    # --- WSGI

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one HTTP request."""
        request = Request(environ)
        try:
            operation, arguments = self._map.bind_to_environ(environ).match()
            response = (
                self._control(operation, request) if operation.startswith("_") else self._serve(operation, request, arguments)
            )
        except (NotFound, MethodNotAllowed) as error:
            response = self.error(error.code or 404, "no such route")
        except HTTPException as error:
            response = self.error(error.code or 400, error.description or "bad request")
        return response(environ, start_response)

    def _serve(self, operation: str, request: Request, arguments: Mapping[str, Any]) -> Response:
        refusal = self.authorize(request)
        if refusal is not None:
            return refusal
        return self.perform(
            operation, {**request.args.to_dict(), **arguments}, request, lambda: self._handle(operation, request, arguments)
        )

    def _handle(self, operation: str, request: Request, arguments: Mapping[str, Any]) -> Response:
        with self.lock:
            response: Response = getattr(self, operation)(request, **arguments)
            return response

    def authorize(self, request: Request) -> Response | None:
        """Return a refusal when the caller's credentials are wrong; a subclass checks what its vendor checks."""
        return None

    def perform(self, operation: str, arguments: dict[str, Any], request: Request, work: Callable[[], Response]) -> Response:
        """Record the call, then do *work* unless a fault says otherwise."""
        with self.lock:
            self.calls.append(Call(operation, arguments, time.monotonic()))
            fault = self._next_fault(operation)
        if self.latency_seconds:
            time.sleep(self.latency_seconds)
        if fault is None:
            return work()
        if fault.mode == "refuse":
            return self._faulty_answer(fault)
        if fault.mode == "hang":
            time.sleep(fault.seconds)
            return self._drop(request, timed_out=True)
        if fault.before is not None:
            fault.before()
        response = work()
        if fault.after is not None:
            fault.after()
        if fault.mode == "fail_after":
            return self._faulty_answer(fault)
        if fault.mode == "lose":
            return self._drop(request)
        return response

    def _next_fault(self, operation: str) -> Fault | None:
        for fault in self.faults:
            if fault.operation not in (operation, "*") or fault.times == 0:
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    def _faulty_answer(self, fault: Fault) -> Response:
        if fault.body is None:
            response = self.error(fault.status, "arranged failure")
        elif isinstance(fault.body, str):
            response = Response(fault.body, fault.status, content_type="text/html")
        else:
            response = answer(fault.body, fault.status)
        response.headers.update(fault.headers)
        return response

    @staticmethod
    def _drop(request: Request, *, timed_out: bool = False) -> Response:
        connection = request.environ.get("gunicorn.socket") or request.environ.get("werkzeug.socket")
        if isinstance(connection, socket.socket):
            connection.shutdown(socket.SHUT_RDWR)
            return Response(b"", 500)
        if timed_out:
            raise httpx.ReadTimeout("the simulator is silent")
        raise LostConnection("the simulator dropped the connection")

    def _control(self, operation: str, request: Request) -> Response:
        if operation == "_fault":
            return self._arrange(request)
        with self.lock:
            if operation == "_inventory":
                return answer(self.inventory())
            return answer({"calls": [{"operation": call.operation, "arguments": call.arguments} for call in self.calls]})

    def _arrange(self, request: Request) -> Response:
        wanted = request.get_json(force=True)
        if wanted.get("heal"):
            self.heal()
            return answer({"ok": True})
        allowed = {"operation", "mode", "status", "seconds", "skip", "times", "body", "headers"}
        if set(wanted) - allowed or wanted.get("mode") not in MODES:
            return answer({"error": f"a fault has {', '.join(sorted(allowed))}; modes: {', '.join(MODES)}"}, 400)
        self.fail(**wanted)
        return answer({"ok": True})


@lru_cache
def _map_of(routes: tuple[tuple[str, str, str], ...]) -> Map:
    """Return the routing of a class of simulators, compiled once: there are hundreds of runtimes in one process."""
    control = (("GET", "/_sim/calls", "_calls"), ("GET", "/_sim/inventory", "_inventory"), ("POST", "/_sim/faults", "_fault"))
    rules = [Rule(rule, methods=[method], endpoint=name) for method, rule, name in (*routes, *control)]
    return Map(rules, strict_slashes=False)


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return *body* as a JSON response."""
    return Response(json.dumps(body), status, headers=headers, content_type="application/json")
