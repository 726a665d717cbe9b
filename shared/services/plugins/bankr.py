"""Wallets that trade, from Bankr's partner API, each with a key of its own.

Creating is idempotent by `idempotencyKey`, for which we give our name; a repetition answers with the same wallet but without
its key, which is shown once. Nothing of this API is published as a specification: what is read here is kept to the few fields
that its users report.
"""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, SecretStr

from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.remote import Remote, Reply, Retry
from shared.services.plugins.base import NAME_SPENT, Grant, Page, VendorKey, confirm, told
from shared.settings import Settings, reveal


class BankrSettings(Settings):
    """How wallets are made."""

    bankr_api_url: str = Field("https://api.bankr.bot", pattern=r"^https?://\S+$", description="Bankr's API")
    bankr_api_key: VendorKey = Field(description="the partner key (bk_ptr_…), with which wallets are made")
    bankr_read_only: bool = Field(True, description="whether an instance's key may only look, and move nothing")


class _Wallet(BaseModel):
    id: str
    status: str | None = None
    api_key: SecretStr | None = Field(None, alias="apiKey")


class _NewKey(BaseModel):
    api_key: SecretStr = Field(alias="apiKey")


class Bankr:
    """A plugin; see `Plugin`."""

    tool: ClassVar[str] = "crypto"
    title: ClassVar[str] = "Bankr wallet"
    always: ClassVar[bool] = False
    reusable: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ("BANKR_API_KEY",)
    settings: ClassVar[type[BankrSettings]] = BankrSettings

    def __init__(self, remote: Remote, *, read_only: bool) -> None:
        self._remote = remote
        self._read_only = read_only

    @classmethod
    def build(cls, settings: BankrSettings, *, transport: httpx.BaseTransport | None = None, retry: Retry = Retry()) -> Bankr:
        """Return the plugin that works with *settings*; no call is made."""
        headers = {"X-Partner-Key": reveal(settings.bankr_api_key)}
        remote = Remote("Bankr", settings.bankr_api_url, headers=headers, retry=retry, transport=transport)
        return cls(remote, read_only=settings.bankr_read_only)

    def provision(self, name: str, *, attempt: int, doubtful: bool) -> Grant:
        """Make or find the wallet. One that was there already gets a new key, after all earlier ones were revoked.

        The vendor itself tells whether the wallet is new, so *doubtful* changes nothing here.
        """
        wallet = self._wallet(name)
        if wallet.status == "closed":
            raise RemoteRefusedError("Bankr", "creating a wallet", "has closed the wallet of this name", code=NAME_SPENT)
        key = wallet.api_key
        if key is None:
            self._revoke(wallet.id)
            key = self._mint(wallet.id, name)
        return Grant(wallet.id, {"BANKR_API_KEY": key})

    def assign(self, resource_id: str, name: str) -> Grant:
        """Never asked: a wallet may hold its owner's money and is not reusable."""
        raise NotImplementedError("a wallet is not reusable")

    def release(self, resource_id: str) -> None:
        """Revoke the wallet's keys, then close it. A wallet that refuses because it is closed is success."""
        try:
            self._revoke(resource_id)
            path = f"{_path(resource_id)}/close"
            confirm(self._remote.send("POST", path, during="closing a wallet", json={}, repeatable=True, accept=(404,)))
        except RemoteRefusedError:
            if not self.is_gone(resource_id):
                raise

    def find(self, name: str) -> str | None:
        """Repeat the create, which answers with the wallet of that name: the vendor has no listing. A closed one is none.

        Where there never was one, this makes it; the caller, who means to release it, closes it again.
        """
        wallet = self._wallet(name)
        closed = wallet.status == "closed" or (wallet.status is None and self._is_closed(wallet.id) is True)
        return None if closed else wallet.id

    def is_gone(self, resource_id: str) -> bool | None:
        """Ask for the wallet: unknown or closed is gone; an answer without a status tells nothing."""
        return told(lambda: self._is_closed(resource_id))

    def inventory(self, cursor: str | None) -> Page:
        """Nothing: the vendor documents no listing, so what we lost track of is found only by provisioning the same name."""
        return Page((), None)

    def _wallet(self, name: str) -> _Wallet:
        during = "creating a wallet"
        body = {"idempotencyKey": name, "apiKey": self._key_request(name)}
        reply = self._remote.send("POST", "/partner/wallets", during=during, json=body, repeatable=True, accept=(409,))
        if reply.status == 409:
            raise RemoteUnavailableError(reply.system, during, "is still working on the same wallet", http_status=409)
        return _parse_wallet(reply)

    def _mint(self, wallet_id: str, name: str) -> SecretStr:
        path = f"{_path(wallet_id)}/api-keys"
        reply = self._remote.send("POST", path, during="creating a wallet's key", json=self._key_request(name))
        return reply.parse(_NewKey).api_key

    def _revoke(self, wallet_id: str) -> None:
        path = f"{_path(wallet_id)}/api-keys"
        confirm(self._remote.send("DELETE", path, during="revoking a wallet's keys", repeatable=True, accept=(404,)))

    def _key_request(self, name: str) -> dict[str, object]:
        permissions = {
            "agentApiEnabled": True,
            "llmGatewayEnabled": False,
            "tokenLaunchApiEnabled": False,
            "readOnly": self._read_only,
        }
        return {"name": name, "permissions": permissions}

    def _is_closed(self, wallet_id: str) -> bool | None:
        reply = self._remote.send("GET", _path(wallet_id), during="reading a wallet", repeatable=True, accept=(404,))
        if reply.status == 404:
            return True
        status = _parse_wallet(reply).status
        return None if status is None else status == "closed"


def _path(wallet_id: str) -> str:
    return f"/partner/wallets/{quote(wallet_id, safe='')}"


def _parse_wallet(reply: Reply) -> _Wallet:
    wallet = reply.parse(_Wallet)
    if not wallet.id:
        raise RemoteError(reply.system, reply.during, "named no wallet")
    return wallet
