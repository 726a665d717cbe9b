"""Model keys from OpenRouter: one key of its own, with a spending limit of its own, for every instance.

The vendor shows a key once and knows no idempotent create; names are not unique there. Keys are administered with a
management key, which never reaches an instance (P42).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, SecretStr

from shared.remote import Remote, Retry
from shared.services import names
from shared.services.plugins.base import Grant, Held, Page, VendorKey, confirm, numbered, same_instance, told
from shared.settings import Settings, reveal

_OVERLAP = 10
"""Keys that each page repeats of the one before: as many may be deleted while we read, and none is missed (P35)."""


class OpenRouterSettings(Settings):
    """How keys are bought."""

    openrouter_api_url: str = Field("https://openrouter.ai/api/v1", pattern=r"^https?://\S+$", description="OpenRouter's API")
    openrouter_management_key: VendorKey = Field(description="the management key with which model keys are made")
    openrouter_key_limit: float = Field(20.0, gt=0, description="what one instance may spend in a period, in USD")
    openrouter_key_limit_reset: Literal["daily", "weekly", "monthly"] = Field("monthly", description="that period")


class _Key(BaseModel):
    hash: str
    name: str
    created_at: str = ""


class _Created(BaseModel):
    data: _Key
    key: SecretStr


class _Keys(BaseModel):
    data: list[_Key]


class _One(BaseModel):
    data: _Key


class OpenRouter:
    """A plugin; see `Plugin`. Key and resource are one thing here, so a lost key is deleted and bought anew."""

    tool: ClassVar[str] = "openrouter"
    title: ClassVar[str] = "OpenRouter key"
    always: ClassVar[bool] = True
    reusable: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ("OPENROUTER_API_KEY",)
    settings: ClassVar[type[OpenRouterSettings]] = OpenRouterSettings

    def __init__(self, remote: Remote, *, limit: float, limit_reset: str) -> None:
        self._remote = remote
        self._limit = limit
        self._limit_reset = limit_reset

    @classmethod
    def build(
        cls, settings: OpenRouterSettings, *, transport: httpx.BaseTransport | None = None, retry: Retry = Retry()
    ) -> OpenRouter:
        """Return the plugin that works with *settings*; no call is made."""
        headers = {"Authorization": f"Bearer {reveal(settings.openrouter_management_key)}"}
        remote = Remote("OpenRouter", settings.openrouter_api_url, headers=headers, retry=retry, transport=transport)
        return cls(remote, limit=settings.openrouter_key_limit, limit_reset=settings.openrouter_key_limit_reset)

    def provision(self, name: str, *, attempt: int, doubtful: bool) -> Grant:
        """Buy a key: one call, or, when doubtful, after deleting every key of this instance. Never are two of them alive."""
        if doubtful:
            for key in [key for key in self._every_key() if same_instance(key.name, name)]:
                self.release(key.hash)
        body = {"name": name, "limit": self._limit, "limit_reset": self._limit_reset}
        created = self._remote.send("POST", "/keys", during="creating a key", json=body).parse(_Created)
        return Grant(created.data.hash, {"OPENROUTER_API_KEY": created.key})

    def assign(self, resource_id: str, name: str) -> Grant:
        """Never asked: a key is not reusable."""
        raise NotImplementedError("an OpenRouter key is not reusable")

    def release(self, resource_id: str) -> None:
        """Delete the key; 404 is success."""
        path = f"/keys/{quote(resource_id, safe='')}"
        confirm(self._remote.send("DELETE", path, during="deleting a key", repeatable=True, accept=(404,)))

    def find(self, name: str) -> str | None:
        """Look for a key called *name*."""
        return next((key.hash for key in self._every_key() if key.name == name), None)

    def is_gone(self, resource_id: str) -> bool | None:
        """Ask for the key by its hash."""
        return told(lambda: self._is_missing(resource_id))

    def inventory(self, cursor: str | None) -> Page:
        """List the keys under our names, disabled ones too, newest first; the cursor is the offset."""
        offset = numbered(cursor, first=0)
        keys = self._page(offset)
        held = tuple(Held(key.hash, key.name, key.created_at) for key in keys if names.parse(key.name) is not None)
        return Page(held, None if len(keys) <= _OVERLAP else str(offset + len(keys) - _OVERLAP))

    def _is_missing(self, resource_id: str) -> bool:
        path = f"/keys/{quote(resource_id, safe='')}"
        reply = self._remote.send("GET", path, during="reading a key", repeatable=True, accept=(404,))
        if reply.status == 404:
            return True
        reply.parse(_One)
        return False

    def _every_key(self) -> Iterator[_Key]:
        offset = 0
        while True:
            keys = self._page(offset)
            yield from keys
            if len(keys) <= _OVERLAP:
                return
            offset += len(keys) - _OVERLAP

    def _page(self, offset: int) -> list[_Key]:
        params = {"offset": offset, "include_disabled": "true"}
        return self._remote.send("GET", "/keys", during="listing keys", params=params, repeatable=True).parse(_Keys).data
