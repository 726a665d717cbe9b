"""The HTTP interface of the agent runtime inside an instance: the only place that speaks it.

Addresses and tokens are passed with every call: one `RuntimeClient` serves all instances, and all threads. No call is
repeated here; who calls knows what an unknown outcome means to it. A 404 for a path that only current images have is None, a
legal answer; a 404 of the provider's edge says that nobody lives at that address, which is an outage, not an old image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx
from pydantic import AliasGenerator, BaseModel, ConfigDict, SecretStr, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.remote import NO_RETRY, Remote, Reply
from shared.settings import reveal

SYSTEM = "The instance's runtime"
LARGEST_ANSWER_BYTES = 256 * 1024
_NOBODY_THERE = "application_not_found"


class Verdict(StrEnum):
    """What one health check says. Only READY proves anything good; neither of the others proves a death (P32)."""

    READY = "ready"
    NOT_READY = "not_ready"
    """The runtime, or something in its place, answered, and not that it is ready."""
    UNREACHABLE = "unreachable"
    """Nothing answered but, at most, the provider's edge."""


@dataclass(frozen=True)
class Health:
    """A verdict, with what a ready runtime tells of itself."""

    verdict: Verdict
    reason: str = ""
    """Why it is not ready, for people; empty for READY."""
    version: str | None = None
    capabilities: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Provision:
    """What one caller's claim tells an agent. Nothing of it prints."""

    agent_name: str
    instructions: str = field(repr=False)
    join_url: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    model: str | None = None
    variables: Mapping[str, SecretStr] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the body to send: absent fields are left out, which older images expect."""
        body = {
            "agentName": self.agent_name,
            "instructions": self.instructions,
            "joinUrl": self.join_url,
            "metadata": self.metadata,
            "model": self.model,
            "variables": _revealed(self.variables) if self.variables else None,
        }
        return {name: value for name, value in body.items() if value is not None}


class ProvisionStatus(StrEnum):
    """How an introduction ended."""

    JOINED = "joined"
    CREATED = "created"
    PENDING_ACCEPTANCE = "pending_acceptance"


class _Answer(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        strict=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=to_camel),
    )


class Provisioned(_Answer):
    """What the runtime answered to an introduction. `conversation_id` is None only while an acceptance is pending (P7)."""

    ok: bool
    invite_url: str | None
    conversation_id: str | None
    joined: bool
    status: ProvisionStatus

    @model_validator(mode="before")
    @classmethod
    def _name_the_status(cls, raw: Any) -> Any:
        """Older images send no status: a conversation was joined or created, as `joined` tells."""
        if isinstance(raw, dict) and raw.get("status") is None:
            status = ProvisionStatus.JOINED if raw.get("joined") is True else ProvisionStatus.CREATED
            return {**raw, "status": status.value}
        return raw

    @model_validator(mode="after")
    def _has_a_conversation(self) -> Provisioned:
        if self.status is not ProvisionStatus.PENDING_ACCEPTANCE and not self.conversation_id:
            raise ValueError("a conversation was joined or created, and has no id")
        return self

    def __repr__(self) -> str:
        return f"Provisioned(ok={self.ok}, joined={self.joined}, status={self.status.value!r})"

    __str__ = __repr__


class ConversationStatus(_Answer):
    """Whom the agent is talking to. Only `clean` proves that it was told nothing since its last factory reset (P3)."""

    conversation_id: str | None
    invite_url: str | None = None
    pending: bool
    clean: bool

    def __repr__(self) -> str:
        bound = self.conversation_id is not None
        return f"ConversationStatus(bound={bound}, pending={self.pending}, clean={self.clean})"

    __str__ = __repr__


class RuntimeClient:
    """Talks to the runtimes of all instances through one set of connections. Safe to share between threads."""

    def __init__(
        self,
        *,
        transport: httpx.BaseTransport | None = None,
        health_timeout_seconds: float = 5.0,
        timeout_seconds: float = 10.0,
        max_connections: int = 100,
    ) -> None:
        """*timeout_seconds* bounds `status`, `reset` and `restart`; `provision` is given its limit with each call."""
        self._health_timeout_seconds = health_timeout_seconds
        self._remote = Remote(
            SYSTEM,
            "https://instance.invalid",  # never called: every address is absolute
            timeout_seconds=timeout_seconds,
            retry=NO_RETRY,
            transport=transport,
            max_connections=max_connections,
            max_answer_bytes=LARGEST_ANSWER_BYTES,
            explain=_explain,
        )

    def close(self) -> None:
        """Close idle connections; the client can not be used afterwards."""
        self._remote.close()

    def health(self, url: str, token: SecretStr) -> Health:
        """Ask whether the runtime is ready. Never raises RemoteError: every failure is a verdict (P32, P38)."""
        try:
            reply = self._send("GET", url, "/pool/health", token, timeout_seconds=self._health_timeout_seconds)
            answer = reply.parse(_HealthAnswer)
        except RemoteError as error:
            return Health(_verdict_of(error), error.message)
        if not answer.ready:
            return Health(Verdict.NOT_READY, "The runtime says that it is not ready.", answer.version)
        return Health(Verdict.READY, "", answer.version, frozenset(answer.capabilities or ()))

    def provision(self, url: str, token: SecretStr, *, body: Provision, timeout_seconds: float) -> Provisioned:
        """Introduce the agent to a caller. May take a minute.

        Unless the error says `never_sent`, the agent may have been told, and may join up to 330 s later (P3, P4). An agent
        that is already bound is a RemoteRefusedError with `http_status` 409 and code `already_bound`.
        """
        path = "/pool/provision"
        try:
            reply = self._send("POST", url, path, token, json=body.to_json(), timeout_seconds=timeout_seconds)
        except RemoteRefusedError as error:
            if error.http_status != 409:
                raise
            raise RemoteRefusedError(SYSTEM, error.during, "is already bound", http_status=409, code="already_bound") from error
        if not reply.parse(_Done).ok:
            raise RemoteError(SYSTEM, reply.during, "answered that it did not succeed", http_status=reply.status)
        return reply.parse(Provisioned)

    def status(self, url: str, token: SecretStr) -> ConversationStatus | None:
        """Ask whom the agent is talking to; None when its image is too old to tell, which proves nothing."""
        reply = self._send_or_none("GET", url, "/convos/status", token)
        return None if reply is None else reply.parse(ConversationStatus)

    def reset(self, url: str, token: SecretStr) -> bool | None:
        """Have everything forgotten, and return whether that worked; None when the image is too old.

        A repeat does no harm. It does not call back an introduction that was abandoned and is still under way (P4).
        """
        reply = self._send_or_none("POST", url, "/convos/reset", token)
        return None if reply is None else reply.parse(_Done).ok

    def restart(self, url: str, token: SecretStr, env: Mapping[str, SecretStr]) -> bool | None:
        """Restart the agent with *env* added to its variables, and return whether it agreed; None when it is too old."""
        reply = self._send_or_none("POST", url, "/pool/restart", token, json={"env": _revealed(env)})
        return None if reply is None else reply.parse(_Agreed).ok

    def _send_or_none(self, method: str, url: str, path: str, token: SecretStr, *, json: object = None) -> Reply | None:
        try:
            return self._send(method, url, path, token, json=json)
        except RemoteRefusedError as error:
            if error.http_status == 404:
                return None
            raise

    def _send(
        self, method: str, url: str, path: str, token: SecretStr, *, json: object = None, timeout_seconds: float | None = None
    ) -> Reply:
        during = f"{method} {path}"
        if not url.startswith(("https://", "http://")):
            raise RemoteRefusedError(SYSTEM, during, "has an address that cannot be read", never_sent=True)
        headers = {"Authorization": f"Bearer {reveal(token)}"}
        try:
            return self._remote.send(
                method,
                url.rstrip("/") + path,
                during=during,
                json=json,
                headers=headers,
                timeout_seconds=timeout_seconds,
            )
        except RemoteRefusedError as error:
            if error.remote_code != _NOBODY_THERE:
                raise
            raise _nobody_there(error) from error


class _HealthAnswer(_Answer):
    ready: bool
    version: str | None = None
    capabilities: tuple[str, ...] | None = None


class _Done(_Answer):
    ok: bool


class _Agreed(_Answer):
    ok: bool = True  # its answer is not documented: any JSON object that does not deny it


class _EdgeError(BaseModel):
    status: str
    message: str


def _explain(reply: Reply) -> tuple[str, str]:
    try:
        edge = _EdgeError.model_validate_json(reply.content)
    except ValidationError:
        return "", ""
    nobody = reply.status == 404 and edge.status == "error" and edge.message == "Application not found"
    return (_NOBODY_THERE if nobody else ""), edge.message


def _nobody_there(error: RemoteRefusedError) -> RemoteUnavailableError:
    problem = "is not at its address, says the provider's edge,"
    return RemoteUnavailableError(SYSTEM, error.during, problem, http_status=error.http_status, remote_code=error.remote_code)


def _verdict_of(error: RemoteError) -> Verdict:
    unanswered = error.http_status is None or error.http_status in (502, 504) or error.remote_code == _NOBODY_THERE
    return Verdict.UNREACHABLE if unanswered else Verdict.NOT_READY


def _revealed(variables: Mapping[str, SecretStr]) -> dict[str, str]:
    return {name: reveal(value) for name, value in variables.items()}
