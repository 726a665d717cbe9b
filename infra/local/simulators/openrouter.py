"""A stand-in for OpenRouter's key management: show-once keys, 100 to a page, newest first, names not unique.

Left out: usage accounting, workspaces, and the models themselves.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from datetime import UTC, datetime
from typing import Any

from werkzeug.wrappers import Request, Response

from infra.local.simulators.base import Simulator, answer
from infra.local.simulators.throttle import Throttle

RESETS = ("daily", "weekly", "monthly", None)


class OpenRouterSimulator(Simulator):
    """Mounted at the root of a host: its API's base is `<host>/api/v1`. Inventory: {hash: name}."""

    name = "openrouter"
    routes = (
        ("POST", "/api/v1/keys", "create_key"),
        ("GET", "/api/v1/keys", "list_keys"),
        ("GET", "/api/v1/keys/<hash_>", "get_key"),
        ("DELETE", "/api/v1/keys/<hash_>", "delete_key"),
        ("GET", "/api/v1/key", "current_key"),
    )

    def __init__(
        self, *, management_key: str, page_size: int = 100, throttle: Throttle | None = None, latency_seconds: float = 0.0
    ) -> None:
        super().__init__(latency_seconds=latency_seconds)
        self._management_key = management_key
        self._page_size = page_size
        self._throttle = throttle
        self._keys: dict[str, dict[str, Any]] = {}
        self._hash_of: dict[str, str] = {}

    def inventory(self) -> dict[str, Any]:
        """Return {hash: name} of every key, disabled ones too."""
        with self.lock:
            return {key["hash"]: key["name"] for key in self._keys.values()}

    def error(self, status: int, message: str) -> Response:
        """Return an error in the vendor's form."""
        return answer({"error": {"code": status, "message": message}}, status)

    def authorize(self, request: Request) -> Response | None:
        """Management routes want the management key, `/key` a model key; then the rate limit counts."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        known = token in self._hash_of if request.path.endswith("/key") else token == self._management_key
        if scheme != "Bearer" or not known:
            return self.error(401, "User not found.")
        wait = self._throttle.wait_seconds() if self._throttle is not None else 0.0
        if wait > 0:
            refusal = self.error(429, "Rate limit exceeded")
            refusal.headers["Retry-After"] = str(math.ceil(wait))
            return refusal
        return None

    def create_key(self, request: Request) -> Response:
        """POST /keys: 201, and the key itself for the only time."""
        body = request.get_json(force=True)
        name, limit, reset = body.get("name"), body.get("limit"), body.get("limit_reset")
        if not isinstance(name, str) or not name:
            return self.error(400, "name: at least one character")
        if reset not in RESETS or not (limit is None or isinstance(limit, int | float)):
            return self.error(400, "limit or limit_reset is invalid")
        plain = f"sk-or-v1-{secrets.token_hex(32)}"
        now = datetime.now(UTC).isoformat()
        key = {
            "hash": hashlib.sha256(plain.encode()).hexdigest(),
            "name": name,
            "label": f"{plain[:12]}...{plain[-3:]}",
            "disabled": False,
            "limit": limit,
            "limit_remaining": limit,
            "limit_reset": reset,
            "usage": 0,
            "created_at": now,
            "updated_at": None,
        }
        self._keys[str(key["hash"])] = key
        self._hash_of[plain] = str(key["hash"])
        return answer({"data": key, "key": plain}, 201)

    def list_keys(self, request: Request) -> Response:
        """GET /keys: newest first."""
        offset = request.args.get("offset", "0")
        if not offset.isdigit():
            return self.error(400, "offset: a number of at least 0")
        with_disabled = request.args.get("include_disabled") == "true"
        newest_first = [key for key in reversed(self._keys.values()) if with_disabled or not key["disabled"]]
        return answer({"data": newest_first[int(offset) : int(offset) + self._page_size]})

    def get_key(self, request: Request, hash_: str) -> Response:
        """GET /keys/{hash}."""
        key = self._keys.get(hash_)
        return answer({"data": key}) if key is not None else self.error(404, "API key not found")

    def delete_key(self, request: Request, hash_: str) -> Response:
        """DELETE /keys/{hash}: the key stops working at once."""
        if self._keys.pop(hash_, None) is None:
            return self.error(404, "API key not found")
        self._hash_of = {plain: found for plain, found in self._hash_of.items() if found != hash_}
        return answer({"deleted": True})

    def current_key(self, request: Request) -> Response:
        """GET /key, with a model key: what that key may spend."""
        plain = request.headers["Authorization"].partition(" ")[2]
        key = self._keys[self._hash_of[plain]]
        shown = {field: key[field] for field in ("label", "limit", "limit_remaining", "limit_reset", "usage")}
        return answer({"data": {**shown, "is_management_key": False}})
