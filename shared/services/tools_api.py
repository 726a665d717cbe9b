"""The functions of the plugins, as the function `instances` sees them: over HTTP, because each vendor's key is theirs alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from shared.api.errors import explain
from shared.api.services import Inventory, Provisioned, Released
from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.remote import NO_RETRY, Remote, Reply, Retry
from shared.settings import reveal

CALL_SECONDS = 110.0
"""How long a purchase or a release is waited for; a lease of a worker must outlive it."""
PROBE_SECONDS = 10.0
PROBE_KEPT_SECONDS = 60.0


class ToolsApi:
    """Buys and releases through the plugins' functions. Safe to share between threads."""

    def __init__(
        self,
        url: str,
        key: SecretStr,
        *,
        transport: httpx.BaseTransport | None = None,
        retry: Retry = Retry(),
        timeout_seconds: float = CALL_SECONDS,
    ) -> None:
        self._remote = Remote(
            "The services side",
            url,
            headers={"Authorization": f"Bearer {reveal(key)}"},
            timeout_seconds=timeout_seconds,
            retry=retry,
            transport=transport,
            explain=explain,
        )
        self._lock = threading.Lock()
        self._probes: dict[str, tuple[float, bool]] = {}

    def is_configured(self, tool: str) -> bool:
        """Whether the tool's function has what it needs; asks no vendor. A yes is believed for a minute."""
        with self._lock:
            at, configured = self._probes.get(tool, (0.0, False))
        if configured and time.monotonic() - at < PROBE_KEPT_SECONDS:
            return True
        reply = self._remote.send(
            "GET",
            f"/inventory/{_segment(tool)}",
            during=f"looking at the tool {tool}",
            params={"probe": "true"},
            timeout_seconds=PROBE_SECONDS,
            repeatable=True,
        )
        found = reply.parse(Inventory).configured
        with self._lock:
            self._probes[tool] = (time.monotonic(), found)
        return found

    def provision(self, instance_id: str, tool: str) -> Provisioned:
        """Give an instance a tool; repeating buys nothing twice. The errors are RemoteErrors with the function's own words."""
        path = f"/provision/{_segment(instance_id)}/{_segment(tool)}"
        return self._send("POST", path, tool, f"the provisioning of {tool}").parse(Provisioned)

    def release(self, instance_id: str, tool: str, *, resource: str) -> None:
        """Release a resource, named by the vendor's id or, where none is known, by its name. Unknown or gone is success."""
        path = f"/destroy/{_segment(instance_id)}/{_segment(tool)}/{_segment(resource)}"
        reply = self._send("DELETE", path, tool, f"the release of {tool}", accept=(404,))
        if reply.status != 404:
            reply.parse(Released)
        elif reply_code(reply) != "not_found":
            raise RemoteUnavailableError("The services side", reply.during, "has no function there", http_status=404)

    def inventory(self, tool: str, *, cursor: str | None = None) -> Inventory:
        """Read one page of what the tool's vendor holds under names of ours; the vendor is asked."""
        params = {} if cursor is None else {"cursor": cursor}
        return self._send("GET", f"/inventory/{_segment(tool)}", tool, f"the inventory of {tool}", params=params).parse(Inventory)

    def _send(
        self,
        method: str,
        path: str,
        tool: str,
        during: str,
        *,
        params: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> Reply:
        json: dict[str, str] | None = {} if method == "POST" else None
        try:
            return self._remote.send(method, path, during=during, json=json, params=params, accept=accept)
        except RemoteError as error:
            raise _in_its_words(error, tool) from error


def reply_code(reply: Reply) -> str:
    """Return the code of one of our own error bodies, or an empty text."""
    return explain(reply)[0]


def make(url: str, key: SecretStr) -> ToolsApi:
    """Return the client of a deployed function; who resumes the work repeats it, so no single call does."""
    return ToolsApi(url, key, retry=NO_RETRY)


def _in_its_words(error: RemoteError, tool: str) -> RemoteError:
    """Say what the function said: its messages are our own sentences and quote no vendor."""
    if not error.remote_code:
        return error
    kind = RemoteUnavailableError if isinstance(error, RemoteUnavailableError) else RemoteRefusedError
    return kind(
        f"The function of {tool}",
        error.during,
        f"answered: {error.remote_message.rstrip('.')} ({error.http_status})",
        http_status=error.http_status,
        remote_code=error.remote_code,
        remote_message=error.remote_message,
        retry_after_seconds=error.retry_after_seconds,
    )


def _segment(text: str) -> str:
    return quote(text, safe="")
