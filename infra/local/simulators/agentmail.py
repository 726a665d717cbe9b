"""A stand-in for AgentMail: inboxes that are idempotent by `client_id`, and keys that reach one inbox.

Left out: mail itself, pods, domains, webhooks. Chosen where the vendor is silent: a deleted inbox frees its `client_id`, and its
keys end with it.
"""

from __future__ import annotations

import math
import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

from werkzeug.wrappers import Request, Response

from infra.local.simulators.base import Simulator, answer
from infra.local.simulators.throttle import Throttle

CLIENT_ID = re.compile(r"[A-Za-z0-9._~-]{1,256}")
OWN_DOMAIN = "agentmail.to"
LARGEST_PAGE = 100


class AgentMailSimulator(Simulator):
    """Mounted at the root of a host: its API's base is `<host>/v0`. Inventory: {inbox_id: client_id}."""

    name = "agentmail"
    routes = (
        ("POST", "/v0/inboxes", "create_inbox"),
        ("GET", "/v0/inboxes", "list_inboxes"),
        ("GET", "/v0/inboxes/<inbox_id>", "get_inbox"),
        ("DELETE", "/v0/inboxes/<inbox_id>", "delete_inbox"),
        ("POST", "/v0/inboxes/<inbox_id>/api-keys", "create_key"),
        ("GET", "/v0/inboxes/<inbox_id>/api-keys", "list_keys"),
        ("DELETE", "/v0/inboxes/<inbox_id>/api-keys/<key_id>", "delete_key"),
    )

    def __init__(
        self,
        *,
        api_key: str,
        domains: tuple[str, ...] = (),
        inbox_limit: int | None = None,
        throttle: Throttle | None = None,
        latency_seconds: float = 0.0,
    ) -> None:
        """*domains* are verified beside the vendor's own; *inbox_limit* is the plan's."""
        super().__init__(latency_seconds=latency_seconds)
        self._api_key = api_key
        self._domains = (OWN_DOMAIN, *domains)
        self._inbox_limit = inbox_limit
        self._throttle = throttle
        self._inboxes: dict[str, dict[str, Any]] = {}
        self._keys: dict[str, dict[str, Any]] = {}

    def inventory(self) -> dict[str, Any]:
        """Return {inbox_id: client_id} of every inbox; the empty text where it has none."""
        with self.lock:
            return {inbox["inbox_id"]: inbox.get("client_id", "") for inbox in self._inboxes.values()}

    def key_names(self) -> list[str]:
        """Return the names of all inbox keys that are alive."""
        with self.lock:
            return [key["name"] for key in self._keys.values()]

    def error(self, status: int, message: str, code: str = "") -> Response:
        """Return an error in the vendor's form."""
        code = code or {400: "validation_error", 401: "unknown_api_key", 404: "not_found"}.get(status, "internal_error")
        return answer(
            {"name": "".join(part.title() for part in code.split("_")) + "Error", "code": code, "message": message}, status
        )

    def authorize(self, request: Request) -> Response | None:
        """The organization's key may do anything, an inbox's key may read its inbox; then the rate limit counts."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            return self.error(401, "no credentials", "missing_authorization")
        if token != self._api_key:
            with self.lock:
                key = self._keys.get(token)
            if key is None:
                return self.error(401, "unknown key")
            if request.method != "GET" or request.path != f"/v0/inboxes/{key['inbox_id']}":
                own = request.path.startswith(f"/v0/inboxes/{key['inbox_id']}/") or request.path == "/v0/inboxes"
                return self.error(403, "not allowed", "missing_permission") if own else self.error(404, "not found")
            if not key["permissions"].get("inbox_read", False):
                return self.error(403, "not allowed", "missing_permission")
        wait = self._throttle.wait_seconds() if self._throttle is not None else 0.0
        if wait > 0:
            refusal = self.error(429, "slow down", "rate_limit_exceeded")
            refusal.headers["Retry-After"] = str(math.ceil(wait))
            return refusal
        return None

    def create_inbox(self, request: Request) -> Response:
        """POST /inboxes: the same `client_id` answers with the same inbox and looks at nothing else."""
        body = request.get_json(force=True) if request.data else {}
        client_id, domain = body.get("client_id"), body.get("domain") or OWN_DOMAIN
        if client_id is not None and not CLIENT_ID.fullmatch(client_id):
            return self.error(400, "client_id is invalid")
        for inbox in self._inboxes.values():
            if client_id is not None and inbox.get("client_id") == client_id:
                return answer(inbox)
        if domain not in self._domains:
            return self.error(403, "verify the domain first", "domain_not_verified")
        if self._inbox_limit is not None and len(self._inboxes) >= self._inbox_limit:
            return self.error(403, "the plan's limit is reached", "limit_exceeded")
        address = f"{body.get('username') or 'agent' + secrets.token_hex(5)}@{domain}"
        if address in self._inboxes:
            return self.error(403, "the address is taken", "resource_taken")
        inbox = {"pod_id": "default", "inbox_id": address, "email": address, "created_at": _now(), "updated_at": _now()}
        self._inboxes[address] = inbox | ({"client_id": client_id} if client_id is not None else {})
        return answer(self._inboxes[address])

    def list_inboxes(self, request: Request) -> Response:
        """GET /inboxes: newest first, by page token."""
        return self._page(request, "inboxes", list(reversed(self._inboxes.values())))

    def get_inbox(self, request: Request, inbox_id: str) -> Response:
        """GET /inboxes/{inbox_id}."""
        inbox = self._inboxes.get(inbox_id)
        return answer(inbox) if inbox is not None else self.error(404, "Inbox not found")

    def delete_inbox(self, request: Request, inbox_id: str) -> Response:
        """DELETE /inboxes/{inbox_id}: 204; its keys end with it."""
        if self._inboxes.pop(inbox_id, None) is None:
            return self.error(404, "Inbox not found")
        self._keys = {secret: key for secret, key in self._keys.items() if key["inbox_id"] != inbox_id}
        return Response(status=204)

    def create_key(self, request: Request, inbox_id: str) -> Response:
        """POST /inboxes/{inbox_id}/api-keys: the secret is told this once."""
        if inbox_id not in self._inboxes:
            return self.error(404, "Inbox not found")
        body = request.get_json(force=True)
        secret = f"am_{secrets.token_hex(24)}"
        key = {
            "api_key_id": str(uuid.uuid4()),
            "prefix": secret[:8],
            "name": body.get("name", ""),
            "inbox_id": inbox_id,
            "permissions": body.get("permissions") or {"inbox_read": True},
            "created_at": _now(),
        }
        self._keys[secret] = key
        return answer({**key, "api_key": secret})

    def list_keys(self, request: Request, inbox_id: str) -> Response:
        """GET /inboxes/{inbox_id}/api-keys: newest first, without secrets."""
        if inbox_id not in self._inboxes:
            return self.error(404, "Inbox not found")
        found = [key for key in reversed(self._keys.values()) if key["inbox_id"] == inbox_id]
        return self._page(request, "api_keys", found)

    def delete_key(self, request: Request, inbox_id: str, key_id: str) -> Response:
        """DELETE /inboxes/{inbox_id}/api-keys/{api_key_id}."""
        for secret, key in self._keys.items():
            if key["api_key_id"] == key_id and key["inbox_id"] == inbox_id:
                del self._keys[secret]
                return Response(status=204)
        return self.error(404, "API key not found")

    def _page(self, request: Request, field: str, rows: list[dict[str, Any]]) -> Response:
        limit, token = request.args.get("limit", "20"), request.args.get("page_token", "0")
        if not limit.isdigit() or not 1 <= int(limit) <= LARGEST_PAGE or not token.isdigit():
            return self.error(400, "limit or page_token is invalid")
        start, end = int(token), int(token) + int(limit)
        following = {"next_page_token": str(end)} if end < len(rows) else {}
        shown = rows[start:end]
        return answer({"count": len(shown), "limit": int(limit), field: shown, **following})


def _now() -> str:
    return datetime.now(UTC).isoformat()
