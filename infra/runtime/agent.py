"""One agent's runtime: the routes that the pool calls, and the ways in which real ones disappoint.

How an agent behaves follows from its image's reference, so that a scenario can be asked for from outside: `:old` knows only
health and provision, and checks callers against `POOL_API_KEY`; `broken-provision` answers 500 to every provision. The rest is
set on the object, by `POST /_sim/behave`, or by arranging faults as with every simulator. Instructions are never logged.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Request, Response

from infra.local.simulators.base import Simulator, answer
from infra.runtime.memory import Heard, Memory

CAPABILITIES = ("variables",)


class Mode(StrEnum):
    """How the agent answers; every mode but the first is an accident."""

    NORMAL = "normal"
    NOT_READY = "not_ready"
    """Health answers 503."""
    READY_FALSE = "ready_false"
    """Health answers 200 and `{"ready": false}` (P38)."""
    HTML = "html"
    """Health answers 200 with somebody else's page (P38)."""
    CRASHED = "crashed"
    """Every route answers what Railway's edge says when no process listens: 502."""


class Agent(Simulator):
    """The state and the WSGI application of one agent."""

    name = "runtime"
    routes = (
        ("GET", "/pool/health", "health"),
        ("POST", "/pool/provision", "provision"),
        ("POST", "/pool/restart", "restart"),
        ("GET", "/convos/status", "status"),
        ("POST", "/convos/reset", "reset"),
        ("POST", "/_sim/behave", "_behave"),
    )

    def __init__(
        self,
        environment: Mapping[str, str],
        image: str,
        *,
        boot_seconds: float = 0.0,
        provision_seconds: float = 0.0,
        late_seconds: float | None = None,
        capabilities: tuple[str, ...] = CAPABILITIES,
        controls: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*provision_seconds* is how long an introduction takes; with *late_seconds* its answer is lost and the agent joins
        that much later all the same (P4). *clock* tells boot, joins and what was heard when. Without *controls* the
        `/_sim` routes are not there: on a public address anybody could call them.
        """
        super().__init__()
        self.mode = Mode.NORMAL
        self.boot_seconds = boot_seconds
        self.provision_seconds = provision_seconds
        self.late_seconds = late_seconds
        self.capabilities = capabilities
        self._controls = controls
        self._clock = clock
        self.memory = Memory(clock)
        self.boot(environment, image)

    # --- for tests and the local stack

    def boot(self, environment: Mapping[str, str], image: str) -> None:
        """Start the process anew with this environment and image; what is on the volume stays."""
        with self.lock:
            self.image = image
            self.old = ":old" in image
            self._launched_with = dict(environment)
            self._start(environment)

    def wake(self) -> None:
        """Start the same process again, as a sleeping service does at its first request."""
        with self.lock:
            self._start(self.environment)

    @property
    def heard(self) -> tuple[Heard, ...]:
        """Everything the agent was ever told, in order."""
        with self.lock:
            return tuple(self.memory.heard)

    def accept(self, conversation_id: str) -> None:
        """Let the inviter accept the join that is pending."""
        with self.lock:
            self.memory.accept(conversation_id)

    def inventory(self) -> dict[str, Any]:
        """Return what the agent is doing: neither what it was told, nor a secret."""
        with self.lock:
            return {
                "image": self.image,
                "mode": self.mode.value,
                "ready": self._is_ready(),
                "bound": self.memory.conversation is not None,
                "clean": self.memory.clean,
                "told": len(self.memory.heard),
            }

    def error(self, status: int, message: str) -> Response:
        """Return an error as the runtime forms it."""
        return answer({"ok": False, "error": message}, status)

    # --- the routes

    def health(self, request: Request) -> Response:
        """Say whether the agent is ready."""
        if self.mode is Mode.NOT_READY:
            return answer({"ready": False}, 503)
        if self.mode is Mode.HTML:
            return Response("<html><body>It works!</body></html>", 200, content_type="text/html")
        ready = self._is_ready() and self.mode is Mode.NORMAL
        if self.old:
            return answer({"ready": ready})
        return answer({"ready": ready, "version": self._version(), "capabilities": list(self.capabilities)})

    def provision(self, request: Request) -> Response:
        """Take a caller's instructions and join or create a conversation; 409 when somebody came before."""
        if "broken-provision" in self.image:
            return self.error(500, "provision failed")
        if not self._is_ready():
            return self.error(503, "not ready")
        told = _read(request, required=("agentName", "instructions"), texts=("joinUrl", "model"), maps=("metadata", "variables"))
        if self.memory.bound:
            return self.error(409, "already bound")
        applied = self._listen(told)
        takes_seconds = self.provision_seconds if self.late_seconds is None else self.late_seconds
        conversation = self.memory.set_out(told.get("joinUrl"), takes_seconds=takes_seconds)
        if self.late_seconds is not None:
            return self._drop(request)
        body = {
            "ok": True,
            "inviteUrl": conversation.invite_url,
            "conversationId": conversation.conversation_id,
            "joined": conversation.joined,
        }
        return answer(body if self.old else {**body, "status": conversation.status, "applied": applied})

    def status(self, request: Request) -> Response:
        """Say whom the agent is talking to, and whether it is as good as new."""
        conversation = self.memory.conversation
        return answer(
            {
                "conversationId": conversation.conversation_id if conversation else None,
                "inviteUrl": conversation.invite_url if conversation else None,
                "pending": self.memory.pending,
                "clean": self.memory.clean,
            }
        )

    def reset(self, request: Request) -> Response:
        """Forget everything; what is on its way still arrives."""
        self.memory.reset()
        self._start(self._launched_with)
        return answer({"ok": True})

    def restart(self, request: Request) -> Response:
        """Start again with more variables."""
        env = _read(request, required=(), texts=(), maps=("env",)).get("env") or {}
        self.memory.hear(variables=dict(env))
        self._start({**self.environment, **env})
        return answer({"ok": True})

    # --- how requests pass

    def _serve(self, operation: str, request: Request, arguments: Mapping[str, Any]) -> Response:
        if self.mode is Mode.CRASHED:
            return answer({"status": "error", "code": 502, "message": "Application failed to respond"}, 502)
        if self.old and operation not in ("health", "provision"):
            return self.error(404, "no such route")
        return super()._serve(operation, request, arguments)

    def _handle(self, operation: str, request: Request, arguments: Mapping[str, Any]) -> Response:
        response = super()._handle(operation, request, arguments)
        if operation == "provision" and self.provision_seconds and response.status_code == 200:
            time.sleep(self.provision_seconds)  # after the lock: health answers meanwhile, and a second caller gets 409
        return response

    def authorize(self, request: Request) -> Response | None:
        """Refuse whoever does not hold the instance's token; an agent that booted without one refuses everybody (P14)."""
        token = self._launched_with.get("POOL_API_KEY" if self.old else "GATEWAY_TOKEN", "")
        shown = request.headers.get("Authorization", "")
        if token and hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            return None
        return self.error(401, "unauthorized")

    def _control(self, operation: str, request: Request) -> Response:
        if not self._controls:
            return self.error(404, "no such route")
        if operation != "_behave":
            return super()._control(operation, request)
        wanted = request.get_json(force=True)
        if wanted.get("mode", Mode.NORMAL) not in list(Mode):
            raise BadRequest(f"mode is one of {', '.join(Mode)}")
        with self.lock:
            self.mode = Mode(wanted.get("mode", self.mode))
            self.boot_seconds = float(wanted.get("bootSeconds", self.boot_seconds))
            self.provision_seconds = float(wanted.get("provisionSeconds", self.provision_seconds))
            late_seconds = wanted.get("lateSeconds", self.late_seconds)
            self.late_seconds = None if late_seconds is None else float(late_seconds)
        return answer({"ok": True})

    def _start(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._ready_at = self._clock() + self.boot_seconds

    def _is_ready(self) -> bool:
        return self._clock() >= self._ready_at

    def _version(self) -> str:
        return self.image.rpartition(":")[2][:12]

    def _listen(self, told: dict[str, Any]) -> list[str]:
        understood = "variables" in self.capabilities and not self.old
        variables = dict(told.get("variables") or {}) if understood else {}
        self.memory.hear(
            agent_name=told["agentName"],
            instructions=told["instructions"],
            join_url=told.get("joinUrl"),
            model=told.get("model"),
            metadata=told.get("metadata"),
            variables=variables,
        )
        self.environment.update(variables)
        return [name for name in ("model", "variables") if understood and told.get(name)]


def _read(request: Request, *, required: tuple[str, ...], texts: tuple[str, ...], maps: tuple[str, ...]) -> dict[str, Any]:
    body = request.get_json(force=True)
    if not isinstance(body, dict):
        raise BadRequest("send a JSON object")
    shapes = {**dict.fromkeys((*required, *texts), str), **dict.fromkeys(maps, dict)}
    for name, shape in shapes.items():
        value = body.get(name)
        if (value is None and name in required) or (value is not None and not isinstance(value, shape)):
            raise BadRequest(f"{name} is missing or has the wrong type")
    return body
