"""A stand-in for Telnyx: numbers that are searched, ordered, pending for a while, labelled, and on hold after their end.

Left out: messages, reservations, other countries' requirements. A number that somebody else bought meanwhile is arranged with
`sell_to_another`, an order that ends in failure with `failing_orders`.
"""

from __future__ import annotations

import itertools
import math
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from werkzeug.wrappers import Request, Response

from infra.local.simulators.base import Simulator, answer
from infra.local.simulators.throttle import Throttle

DEFAULT_PAGE, LARGEST_PAGE = 20, 250
CODES = {400: "10015", 401: "10009", 404: "10005", 422: "10027", 429: "10011"}


class TelnyxSimulator(Simulator):
    """Mounted at the root of a host: its API's base is `<host>/v2`. Inventory: {number: customer_reference}."""

    name = "telnyx"
    routes = (
        ("GET", "/v2/available_phone_numbers", "search"),
        ("POST", "/v2/number_orders", "create_order"),
        ("GET", "/v2/number_orders", "list_orders"),
        ("GET", "/v2/number_orders/<order_id>", "get_order"),
        ("GET", "/v2/phone_numbers", "list_numbers"),
        ("PATCH", "/v2/phone_numbers/<number_id>", "update_number"),
        ("DELETE", "/v2/phone_numbers/<number_id>", "delete_number"),
        ("PATCH", "/v2/phone_numbers/<number_id>/messaging", "update_messaging"),
    )

    def __init__(
        self,
        *,
        api_key: str,
        messaging_profile_id: str,
        stock: int = 10_000,
        order_seconds: float = 0.3,
        messaging_seconds: float = 0.3,
        clock: Callable[[], float] = time.monotonic,
        throttle: Throttle | None = None,
        latency_seconds: float = 0.0,
    ) -> None:
        """An order is pending for *order_seconds*; for *messaging_seconds* more its number is unknown to messaging."""
        super().__init__(latency_seconds=latency_seconds)
        self.failing_orders = 0
        self._api_key = api_key
        self._profile_id = messaging_profile_id
        self._order_seconds = order_seconds
        self._messaging_seconds = messaging_seconds
        self._clock = clock
        self._throttle = throttle
        self._offered = [f"+1415{serial:07d}" for serial in range(2_000_000, 2_000_000 + stock)]
        self._searched: set[str] = set()
        self._sold: set[str] = set()
        self._orders: dict[str, dict[str, Any]] = {}
        self._numbers: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1_293_384_261_075_731_499)

    # --- for tests and the local stack

    def inventory(self) -> dict[str, Any]:
        """Return {number: customer_reference} of every number we pay for; the empty text where it has none."""
        with self.lock:
            self._settle()
            return {row["phone_number"]: row["customer_reference"] or "" for row in self._numbers.values()}

    def profiles(self) -> dict[str, str | None]:
        """Return {number: messaging profile} of every number we pay for."""
        with self.lock:
            return {row["phone_number"]: row["messaging_profile_id"] for row in self._numbers.values()}

    def sell_to_another(self, *numbers: str) -> None:
        """Let somebody else buy these numbers, or all that we were shown so far."""
        with self.lock:
            self._sold.update(numbers or self._searched)

    # --- Telnyx's own form

    def error(self, status: int, message: str, code: str = "") -> Response:
        """Return an error in the vendor's form."""
        return answer({"errors": [{"code": code or CODES.get(status, "10007"), "title": message, "detail": message}]}, status)

    def authorize(self, request: Request) -> Response | None:
        """Check the key; then the rate limit counts, told in `x-ratelimit-reset`."""
        if request.headers.get("Authorization") != f"Bearer {self._api_key}":
            return self.error(401, "Authentication failed")
        wait = self._throttle.wait_seconds() if self._throttle is not None else 0.0
        if wait > 0 and self._throttle is not None:
            refusal = self.error(429, "Too many requests")
            refusal.headers["x-ratelimit-limit"] = str(self._throttle.limit)
            refusal.headers["x-ratelimit-remaining"] = "0"
            refusal.headers["x-ratelimit-reset"] = str(math.ceil(wait))
            return refusal
        return None

    # --- buying

    def search(self, request: Request) -> Response:
        """GET /available_phone_numbers: the same numbers for everybody who asks; what was sold or is on hold is not shown."""
        if request.args.get("filter[country_code]") != "US" or request.args.get("filter[features][]") != "sms":
            return self.error(400, "this stand-in has US numbers with SMS only")
        limit = int(request.args.get("filter[limit]", "100"))
        found = list(itertools.islice((number for number in self._offered if number not in self._sold), limit))
        self._searched.update(found)
        cost = {"upfront_cost": "1.00", "monthly_cost": "1.00", "currency": "USD"}
        rows = [
            {
                "record_type": "available_phone_number",
                "phone_number": number,
                "features": [{"name": "sms"}, {"name": "voice"}],
                "cost_information": cost,
            }
            for number in found
        ]
        return answer({"data": rows, "meta": {"total_results": len(rows), "best_effort_results": 0}})

    def create_order(self, request: Request) -> Response:
        """POST /number_orders: pending at first; only numbers that our own search showed, each sold once."""
        body = request.get_json(force=True)
        wanted = [row.get("phone_number") for row in body.get("phone_numbers") or []]
        if not wanted:
            return self.error(400, "Missing required parameter", "10004")
        if any(number not in self._searched for number in wanted):
            return self.error(400, "Search for the number first", "85000")
        if any(number in self._sold for number in wanted):
            return self.error(422, "Number no longer available", "85001")
        if body.get("messaging_profile_id") not in (None, self._profile_id):
            return self.error(422, "Invalid messaging profile", "85005")
        self._sold.update(wanted)
        order = {
            "id": str(uuid.uuid4()),
            "record_type": "number_order",
            "status": "pending",
            "customer_reference": body.get("customer_reference"),
            "messaging_profile_id": body.get("messaging_profile_id"),
            "created_at": _now(),
            "phone_numbers": [{"id": str(uuid.uuid4()), "phone_number": number, "status": "pending"} for number in wanted],
        }
        self._orders[str(order["id"])] = order | {"_at": self._clock(), "_fails": self.failing_orders > 0}
        if self.failing_orders > 0:
            self.failing_orders -= 1
        else:
            for number in wanted:
                self._add(number, order)
        return answer({"data": order})

    def get_order(self, request: Request, order_id: str) -> Response:
        """GET /number_orders/{id}."""
        self._settle()
        order = self._orders.get(order_id)
        return answer({"data": _public(order)}) if order is not None else self.error(404, "Order not found")

    def list_orders(self, request: Request) -> Response:
        """GET /number_orders, newest first."""
        self._settle()
        reference, status = request.args.get("filter[customer_reference]"), request.args.get("filter[status]")
        rows = [
            _public(order)
            for order in reversed(self._orders.values())
            if (reference is None or order["customer_reference"] == reference) and (status is None or order["status"] == status)
        ]
        return self._page(request, rows)

    # --- what we own

    def list_numbers(self, request: Request) -> Response:
        """GET /phone_numbers, newest first. The number's filter takes digits only and matches a part too."""
        self._settle()
        digits, reference = request.args.get("filter[phone_number]"), request.args.get("filter[customer_reference]")
        if digits is not None and len(digits) < 3:
            return self.error(400, "filter[phone_number]: at least three digits")
        rows = [
            _public(row)
            for row in reversed(self._numbers.values())
            if (digits is None or (digits.isdigit() and digits in row["phone_number"]))
            and (reference is None or row["customer_reference"] == reference)
        ]
        return self._page(request, rows)

    def update_number(self, request: Request, number_id: str) -> Response:
        """PATCH /phone_numbers/{id}: its label."""
        row = self._numbers.get(number_id)
        if row is None:
            return self.error(404, "Resource not found")
        row["customer_reference"] = request.get_json(force=True).get("customer_reference", row["customer_reference"])
        return answer({"data": _public(row)})

    def update_messaging(self, request: Request, number_id: str) -> Response:
        """PATCH /phone_numbers/{id}/messaging: 404 until messaging has heard of the number."""
        self._settle()
        row = self._numbers.get(number_id)
        if row is None or self._clock() < row["_at"] + self._order_seconds + self._messaging_seconds:
            return self.error(404, "Resource not found")
        profile = request.get_json(force=True).get("messaging_profile_id")
        if profile not in (None, "", self._profile_id):
            return self.error(422, "Invalid messaging profile", "85005")
        row["messaging_profile_id"] = row["messaging_profile_id"] if profile is None else profile or None
        return answer({"data": {"phone_number": row["phone_number"], "messaging_profile_id": row["messaging_profile_id"]}})

    def delete_number(self, request: Request, number_id: str) -> Response:
        """DELETE /phone_numbers/{id}: 200; the number is on hold and offered to nobody."""
        row = self._numbers.pop(number_id, None)
        return answer({"data": _public(row) | {"status": "deleted"}}) if row else self.error(404, "Resource not found")

    def _add(self, number: str, order: dict[str, Any]) -> None:
        identity = str(next(self._ids))
        self._numbers[identity] = {
            "id": identity,
            "record_type": "phone_number",
            "phone_number": number,
            "status": "purchase-pending",
            "customer_reference": order["customer_reference"],
            "messaging_profile_id": order["messaging_profile_id"],
            "tags": [],
            "created_at": order["created_at"],
            "_at": self._clock(),
        }

    def _settle(self) -> None:
        """Let time do its work: orders end, their numbers become active."""
        now = self._clock()
        for order in self._orders.values():
            if order["status"] == "pending" and now >= order["_at"] + self._order_seconds:
                order["status"] = "failure" if order["_fails"] else "success"
                for number in order["phone_numbers"]:
                    number["status"] = order["status"]
        for row in self._numbers.values():
            if now >= row["_at"] + self._order_seconds:
                row["status"] = "active"

    def _page(self, request: Request, rows: list[dict[str, Any]]) -> Response:
        number, size = request.args.get("page[number]", "1"), request.args.get("page[size]", str(DEFAULT_PAGE))
        if not number.isdigit() or not size.isdigit() or int(number) < 1 or not 1 <= int(size) <= LARGEST_PAGE:
            return self.error(400, "page is invalid")
        page, length = int(number), int(size)
        meta = {
            "page_number": page,
            "page_size": length,
            "total_pages": math.ceil(len(rows) / length),
            "total_results": len(rows),
        }
        return answer({"data": rows[(page - 1) * length : page * length], "meta": meta})


def _public(row: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in row.items() if not field.startswith("_")}


def _now() -> str:
    return datetime.now(UTC).isoformat()
