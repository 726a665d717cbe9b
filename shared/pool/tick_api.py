"""The tick as other functions of the pool side call it."""

from __future__ import annotations

import httpx
from pydantic import SecretStr

from shared.api.pool import RunTick, TickResult
from shared.remote import NO_RETRY, Remote
from shared.settings import reveal


class TickApi:
    """Asks for a tick now, over HTTP: the tick is a function of its own."""

    def __init__(self, url: str, key: SecretStr, *, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {reveal(key)}"}
        self._remote = Remote("the tick", url, headers=headers, transport=transport, retry=NO_RETRY)

    def run(self, request: RunTick, *, timeout_seconds: float) -> TickResult:
        """Run a tick and return what it led to; harmless when one is running already."""
        body = request.model_dump(by_alias=True)
        return self._remote.send("POST", "/tick", during="a tick", json=body, timeout_seconds=timeout_seconds).parse(TickResult)
