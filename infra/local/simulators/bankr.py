"""A stand-in for Bankr's partner API: wallets that are idempotent by `idempotencyKey`, keys that are shown once.

Its answers follow what users of the API report, since nothing is specified. Left out: money, and what an agent does with it.
Chosen where all are silent: closing a closed wallet, and minting a key for one, is a 409.
"""

from __future__ import annotations

import math
import secrets
from typing import Any

from werkzeug.wrappers import Request, Response

from infra.local.simulators.base import Simulator, answer
from infra.local.simulators.throttle import Throttle


class BankrSimulator(Simulator):
    """Mounted at the root of a host, which is its API's base. Inventory: {wallet id: idempotencyKey} of open wallets."""

    name = "bankr"
    routes = (
        ("POST", "/partner/wallets", "create_wallet"),
        ("GET", "/partner/wallets/<wallet_id>", "get_wallet"),
        ("POST", "/partner/wallets/<wallet_id>/api-keys", "create_key"),
        ("DELETE", "/partner/wallets/<wallet_id>/api-keys", "revoke_keys"),
        ("POST", "/partner/wallets/<wallet_id>/close", "close_wallet"),
        ("GET", "/wallet/me", "current_wallet"),
    )

    def __init__(self, *, partner_key: str, throttle: Throttle | None = None, latency_seconds: float = 0.0) -> None:
        super().__init__(latency_seconds=latency_seconds)
        self._partner_key = partner_key
        self._throttle = throttle
        self._wallets: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, dict[str, Any]] = {}

    def inventory(self) -> dict[str, Any]:
        """Return {wallet id: idempotencyKey} of the wallets that are not closed."""
        with self.lock:
            return {wallet["id"]: wallet["idempotencyKey"] for wallet in self._wallets.values() if wallet["status"] != "closed"}

    def keys(self) -> list[dict[str, Any]]:
        """Return the keys that are alive, each with its wallet's id and its permissions, without the secret."""
        with self.lock:
            return [dict(key) for key in self._keys.values()]

    def error(self, status: int, message: str) -> Response:
        """Return an error in the vendor's form."""
        return answer({"error": message}, status)

    def authorize(self, request: Request) -> Response | None:
        """Partner routes want the partner key, `/wallet/…` a wallet's own; then the rate limit counts."""
        if request.path.startswith("/wallet/"):
            with self.lock:
                known = request.headers.get("X-API-Key", "") in self._keys
            if not known:
                return self.error(401, "Invalid API key")
        elif request.headers.get("X-Partner-Key") != self._partner_key:
            return self.error(401, "Partner API key required")
        wait = self._throttle.wait_seconds() if self._throttle is not None else 0.0
        if wait > 0:
            refusal = self.error(429, "Too many requests")
            refusal.headers["Retry-After"] = str(math.ceil(wait))
            return refusal
        return None

    def create_wallet(self, request: Request) -> Response:
        """POST /partner/wallets: 201 with a key; the same idempotency key again: 200, the same wallet, without it."""
        body = request.get_json(force=True)
        name = body.get("idempotencyKey") or secrets.token_hex(8)
        if not isinstance(name, str) or len(name) > 128:
            return self.error(400, "idempotencyKey is too long")
        for wallet in self._wallets.values():
            if wallet["idempotencyKey"] == name:
                return answer(_shown(wallet))
        wallet = {
            "id": f"wlt_{secrets.token_hex(8)}",
            "evmAddress": f"0x{secrets.token_hex(20)}",
            "status": "active",
            "idempotencyKey": name,
        }
        self._wallets[wallet["id"]] = wallet
        key = {"apiKey": self._new_key(wallet["id"], body["apiKey"])} if "apiKey" in body else {}
        return answer({**_shown(wallet), **key}, 201)

    def get_wallet(self, request: Request, wallet_id: str) -> Response:
        """GET /partner/wallets/{id}."""
        wallet = self._wallets.get(wallet_id)
        return answer(_shown(wallet)) if wallet is not None else self.error(404, "Wallet not found")

    def create_key(self, request: Request, wallet_id: str) -> Response:
        """POST /partner/wallets/{id}/api-keys: a further key, shown this once."""
        wallet = self._wallets.get(wallet_id)
        if wallet is None:
            return self.error(404, "Wallet not found")
        if wallet["status"] == "closed":
            return self.error(409, "Wallet is closed")
        return answer({"apiKey": self._new_key(wallet_id, request.get_json(force=True))}, 201)

    def revoke_keys(self, request: Request, wallet_id: str) -> Response:
        """DELETE /partner/wallets/{id}/api-keys: all of them."""
        if wallet_id not in self._wallets:
            return self.error(404, "Wallet not found")
        before = len(self._keys)
        self._keys = {secret: key for secret, key in self._keys.items() if key["walletId"] != wallet_id}
        return answer({"revoked": before - len(self._keys)})

    def close_wallet(self, request: Request, wallet_id: str) -> Response:
        """POST /partner/wallets/{id}/close: for good."""
        wallet = self._wallets.get(wallet_id)
        if wallet is None:
            return self.error(404, "Wallet not found")
        if wallet["status"] == "closed":
            return self.error(409, "Wallet is already closed")
        wallet["status"] = "closed"
        return answer({"status": "closed"})

    def current_wallet(self, request: Request) -> Response:
        """GET /wallet/me, with a wallet's own key."""
        wallet = self._wallets[self._keys[request.headers["X-API-Key"]]["walletId"]]
        if wallet["status"] == "closed":
            return self.error(403, "Wallet is closed")
        return answer({"evmAddress": wallet["evmAddress"]})

    def _new_key(self, wallet_id: str, wanted: dict[str, Any]) -> str:
        secret = f"bk_usr_{secrets.token_hex(20)}"
        permissions = {"readOnly": True, **(wanted.get("permissions") or {})}
        self._keys[secret] = {"walletId": wallet_id, "name": wanted.get("name", ""), "permissions": permissions}
        return secret


def _shown(wallet: dict[str, Any]) -> dict[str, Any]:
    return {field: wallet[field] for field in ("id", "evmAddress", "status")}
