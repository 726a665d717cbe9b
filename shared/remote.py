"""The only door to the network: time limits, retries, and what a failure means.

A caller builds a request and reads a `Reply`; how it is sent, whether it is repeated and which error a bad answer becomes is
decided here, once. Nothing here knows a vendor.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from shared import log
from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError

Parsed = TypeVar("Parsed")
EXCERPT_LENGTH = 200
LONGEST_RETRY_AFTER_SECONDS = 3600.0
LARGEST_ANSWER_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Retry:
    """How often and how long a repeatable request is repeated: bounded in attempts and in time, with jitter."""

    attempts: int = 3
    within_seconds: float = 10.0
    first_pause_seconds: float = 0.2


NO_RETRY = Retry(attempts=1)


@dataclass(frozen=True)
class Reply:
    """An answer that arrived, with what is needed to blame the right system for it."""

    system: str
    during: str
    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    def parse(self, shape: type[Parsed]) -> Parsed:
        """Validate the body against *shape*, or raise RemoteError: an answer we cannot read proves nothing (P38)."""
        try:
            return TypeAdapter(shape).validate_json(self.content)
        except ValidationError as error:
            where = [".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False)[:5]]
            facts = {"status": self.status, "where": where, "excerpt": self._excerpt()}
            log.warning("remote.unreadable", system=self.system, during=self.during, **facts)
            raise RemoteError(self.system, self.during, "gave an answer that cannot be read", http_status=self.status) from None

    def _excerpt(self) -> str:
        """Return the beginning of a page that was sent instead of JSON; anything that might be JSON may hold a secret."""
        text = self.content[:EXCERPT_LENGTH].decode("utf-8", "replace")
        return " ".join(text.split()) if text.lstrip().startswith("<") else ""


class Remote:
    """One other system, reached over HTTP below one base address.

    Safe to share between threads. Connections open at the first request and are kept; a fork before that is harmless.
    """

    def __init__(
        self,
        system: str,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
        connect_seconds: float = 5.0,
        retry: Retry = Retry(),
        transport: httpx.BaseTransport | None = None,
        max_connections: int = 50,
        max_answer_bytes: int = LARGEST_ANSWER_BYTES,
        explain: Callable[[Reply], tuple[str, str]] | None = None,
    ) -> None:
        """*explain* reads a refusal's own (code, message), used for classification only.

        A system of many hosts passes absolute addresses to `send`; *base_url* then only says whether certificates are
        verified.
        """
        self.system = system
        self._explain = explain
        self._retry = retry
        self._timeout_seconds = timeout_seconds
        self._connect_seconds = connect_seconds
        self._max_answer_bytes = max_answer_bytes
        self._client = httpx.Client(
            base_url=base_url.rstrip("/"),
            headers=dict(headers or {}),
            transport=transport,
            verify=base_url.startswith("https://"),
            limits=httpx.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            follow_redirects=False,
            trust_env=False,
        )

    def close(self) -> None:
        """Close idle connections; the object can not be used afterwards."""
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        during: str,
        json: object = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        repeatable: bool = False,
        accept: Container[int] = (),
    ) -> Reply:
        """Send a request and return its answer: any 2xx, or a status named in *accept*.

        *timeout_seconds* bounds one attempt as a whole, from waiting for a connection to the last byte of the body.
        *repeatable* says that a second arrival does no harm: then an unavailable system is asked again, within limits.
        Raises RemoteUnavailableError (no answer, 408, 425, 429, 5xx) or RemoteRefusedError (any other status).
        """
        attempts = self._retry.attempts if repeatable else 1
        started = time.monotonic()
        for attempt in range(1, attempts + 1):
            try:
                return self._send_once(method, path, during, json, params, headers, timeout_seconds, accept)
            except RemoteUnavailableError as error:
                pause = self._pause(attempt, error)
                spent = time.monotonic() - started
                if attempt == attempts or spent + pause > self._retry.within_seconds:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _pause(self, attempt: int, error: RemoteUnavailableError) -> float:
        growing = self._retry.first_pause_seconds * 2.0 ** (attempt - 1)
        return max(growing * random.uniform(0.5, 1.5), error.retry_after_seconds or 0.0)

    def _send_once(
        self,
        method: str,
        path: str,
        during: str,
        json: object,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        timeout_seconds: float | None,
        accept: Container[int],
    ) -> Reply:
        limit = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        remaining = _Remaining(limit, connect_seconds=self._connect_seconds)
        sent = self._headers(headers)
        try:
            with self._client.stream(
                method, path, json=json, params=params, headers=sent, extensions={"timeout": remaining}
            ) as response:
                content = self._read(response, during, remaining)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise RemoteUnavailableError(self.system, during, "could not be reached", never_sent=True) from error
        except httpx.TimeoutException as error:
            raise RemoteUnavailableError(self.system, during, "did not answer in time") from error
        except httpx.InvalidURL as error:
            raise RemoteRefusedError(self.system, during, "has an address that cannot be read", never_sent=True) from error
        except httpx.LocalProtocolError:
            # Its message quotes the header at fault, which may be a key with a line break in it (P43).
            raise RemoteRefusedError(self.system, during, "cannot be sent such a request") from None
        except (httpx.HTTPError, httpx.StreamError, httpx.CookieConflict) as error:
            raise RemoteUnavailableError(self.system, during, "broke off the connection") from error
        reply = Reply(self.system, during, response.status_code, response.headers, content)
        if 200 <= reply.status < 300 or reply.status in accept:
            return reply
        raise self._failure(reply)

    def _read(self, response: httpx.Response, during: str, remaining: _Remaining) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > self._max_answer_bytes:
                raise RemoteError(self.system, during, "gave an answer that is too large", http_status=response.status_code)
            if remaining.seconds() <= 0:
                raise httpx.ReadTimeout("the answer took longer than the whole limit")
        return bytes(content)

    def _failure(self, reply: Reply) -> RemoteError:
        code, message = self._explain(reply) if self._explain is not None else ("", "")
        if reply.status in (408, 425, 429) or reply.status >= 500:
            problem = "asked us to slow down" if reply.status == 429 else f"answered {reply.status}"
            return RemoteUnavailableError(
                self.system,
                reply.during,
                problem,
                http_status=reply.status,
                remote_code=code,
                remote_message=message,
                retry_after_seconds=retry_after_seconds(reply.headers),
            )
        return RemoteRefusedError(
            self.system,
            reply.during,
            f"answered {reply.status}",
            http_status=reply.status,
            remote_code=code,
            remote_message=message,
        )

    @staticmethod
    def _headers(headers: Mapping[str, str] | None) -> dict[str, str]:
        sent = dict(headers or {})
        trace = log.current()
        if trace is not None:
            sent.setdefault("X-Request-Id", trace.request_id)
        return sent


class _Remaining(Mapping[str, float]):
    """What is left of one total limit, in the shape of httpx's `timeout` extension, which each phase of a request asks.

    With plain numbers every phase, and every chunk of a body, would have the whole limit again. Left open are headers that
    trickle in: httpx asks once before the first of them.
    """

    _PHASES = ("connect", "read", "write", "pool")

    def __init__(self, limit_seconds: float, *, connect_seconds: float) -> None:
        self._ends_at = time.monotonic() + limit_seconds
        self._connect_seconds = connect_seconds

    def seconds(self) -> float:
        """Return what is left, which may be negative."""
        return self._ends_at - time.monotonic()

    def __getitem__(self, phase: str) -> float:
        if phase not in self._PHASES:
            raise KeyError(phase)
        left = max(self.seconds(), 0.001)
        return min(left, self._connect_seconds) if phase == "connect" else left

    def __iter__(self) -> Iterator[str]:
        return iter(self._PHASES)

    def __len__(self) -> int:
        return len(self._PHASES)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After` in whole seconds (the form that all our vendors use), within reason."""
    text = headers.get("retry-after", "").strip()
    return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if text.isdecimal() else None


def read_error_body(reply: Reply, shape: type[BaseModel]) -> BaseModel | None:
    """Parse a refusal's body for an *explain*, or None when it is not of that shape (an HTML page, say)."""
    try:
        return shape.model_validate_json(reply.content)
    except ValidationError:
        return None
