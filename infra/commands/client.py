"""The pool's HTTP API as the operator's commands use it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import httpx

from infra.local.stackfolder import StackFolder
from infra.problem import Problem

_TIMEOUT_SECONDS = 100.0
_FOLLOW_SECONDS = 600.0
_FOLLOW_PAUSE_SECONDS = 1.0


class PoolClient:
    """Speaks to one pool; every failure is a Problem that quotes the API's own message."""

    def __init__(self, url: str, key: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        if not url.startswith(("http://", "https://")):
            raise Problem(f"{url} is not the address of a pool: it begins with https:// or http://.")
        if not key.isascii() or not key.isprintable():
            raise Problem("The key holds characters that no key has; copy it again.")
        headers = {"Authorization": f"Bearer {key}"}
        try:
            self._client = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS, transport=transport)
        except httpx.InvalidURL as error:
            raise Problem(f"{url} is not the address of a pool: {error}.") from None

    def get(self, path: str, **query: str) -> Any:
        """Return the answer to a GET."""
        return self._send("GET", path, params=query)

    def send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer to a request that changes something."""
        return self._send(method, path, json=body)

    def follow(
        self, operation: dict[str, Any], tell: Callable[[str], None], *, pause_seconds: float = _FOLLOW_PAUSE_SECONDS
    ) -> Any:
        """Wait until *operation* is over, telling how far it is; Problem when it failed or takes too long."""
        deadline = time.monotonic() + _FOLLOW_SECONDS
        told = ""
        while operation["status"] == "running":
            if time.monotonic() > deadline:
                raise Problem(f"Operation {operation['operationId']} is still running; the pool goes on with it.")
            sentence = f"{operation['kind']}: {operation['done']} of {operation['total']}"
            if sentence != told:
                tell(sentence)
            told = sentence
            time.sleep(pause_seconds)
            operation = self.get(f"/api/pool/operations/{operation['operationId']}")
        if operation["status"] == "failed":
            raise Problem(f"{operation['kind']} failed: {operation['problem'] or 'no reason was recorded'}")
        return operation

    def _send(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise Problem(f"{self.url} could not be reached: {_why(error)}.") from None
        try:
            found = response.json()
        except ValueError:
            raise Problem(f"{self.url}{path} answered {response.status_code} and something that is not JSON.") from None
        if response.status_code == 401:
            raise Problem(f"{self.url} does not accept this key; give the right one with --key or POOL_API_KEY.")
        if response.status_code >= 400:
            raise Problem(_message(found, response.status_code))
        return found


def connect(arguments: argparse.Namespace) -> PoolClient:
    """Return the pool that the options, the environment or the running local stack name, in this order."""
    url = arguments.url or os.environ.get("POOL_URL", "")
    key = arguments.key or os.environ.get("POOL_API_KEY", "")
    if not url:
        state = StackFolder(arguments.state).read_state()
        if state is None:
            raise Problem(
                "No local stack is running here (start one with: python3 -m infra up), and neither --url nor POOL_URL is set."
            )
        return PoolClient(state["url"], key or state["key"])
    if not key:
        raise Problem(f"A key is needed for {url}: --key, or POOL_API_KEY.")
    return PoolClient(url.rstrip("/"), key)


def _why(error: httpx.HTTPError) -> str:
    """Say in words why there was no answer."""
    if isinstance(error, httpx.TimeoutException):
        return "it does not answer in time"
    text = str(error).partition("] ")[2] or str(error)
    return (text[:1].lower() + text[1:]).rstrip(".") or "the connection ended"


def _message(found: Any, status: int) -> str:
    error = found.get("error") if isinstance(found, dict) else None
    if not isinstance(error, dict):
        return f"The pool answered {status}."
    return f"{error.get('message', '')} ({error.get('code', status)}, request {error.get('requestId', 'unknown')})"
