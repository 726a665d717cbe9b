"""Phone numbers from Telnyx that can send and receive SMS.

A number is bought by search and order; both collide with other buyers, and a fresh number answers 404 for a while (P24). The
vendor has no idempotency: `customer_reference`, for which we give our name, finds an earlier purchase again. A released number
goes to our own stock and is labelled anew for its next owner (P31); `release` gives it back to the vendor for good.

Our API key reaches every number we own and there is none of smaller reach, so an instance is told its number and profile
only (P42): it cannot call Telnyx itself.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import ClassVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, Field, SecretStr

from shared.budget import Budget
from shared.errors import RemoteRefusedError, RemoteUnavailableError
from shared.remote import Remote, Reply, Retry, read_error_body
from shared.services import names
from shared.services.plugins.base import Grant, Held, Page, VendorKey, confirm, numbered, told
from shared.settings import Settings, reveal

_SEARCH = {"filter[country_code]": "US", "filter[features][]": "sms", "filter[limit]": 20}
_PAGE_SIZE = 250
_PURCHASES = 5
_ORDER_PAUSES = (0.5, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0)
_CONNECT_PAUSES = (1.0, 2.0, 3.0, 4.0, 5.0)
_TAKEN = frozenset({"85000", "85001", "85006"})
"""Search first, no longer available, reserved by somebody: another number may do."""
_HOPELESS = frozenset({"20100", "85005"})
"""No funds, bad messaging profile: no other number would do."""
_LOST = frozenset({"purchase-failed", "deleted", "ported-out"})
"""Statuses of a number that is not ours, or not any more."""
BUYING_SECONDS = 45.0
"""After so long no further purchase is begun: the worker's lease must outlive them all, slow answers included."""


class TelnyxSettings(Settings):
    """How numbers are bought."""

    telnyx_api_url: str = Field("https://api.telnyx.com/v2", pattern=r"^https?://\S+$", description="Telnyx's API")
    telnyx_api_key: VendorKey = Field(description="the API key with which numbers are bought")
    telnyx_messaging_profile_id: str = Field(description="the messaging profile of every number; without one it is voice-only")


class _Number(BaseModel):
    id: str | int
    phone_number: str
    status: str = ""
    customer_reference: str | None = None
    created_at: str = ""


class _Meta(BaseModel):
    total_pages: int


class _Numbers(BaseModel):
    data: list[_Number]
    meta: _Meta


class _Offer(BaseModel):
    phone_number: str


class _Offers(BaseModel):
    data: list[_Offer]


class _Order(BaseModel):
    id: str
    status: str
    phone_numbers: list[_Offer] = []
    created_at: str = ""


class _OneOrder(BaseModel):
    data: _Order


class _Orders(BaseModel):
    data: list[_Order]
    meta: _Meta


class _Problem(BaseModel):
    code: str = ""
    title: str = ""


class _Problems(BaseModel):
    errors: list[_Problem] = Field(min_length=1)


class Telnyx:
    """A plugin; see `Plugin`. The resource id is the number in E.164 form."""

    tool: ClassVar[str] = "sms"
    title: ClassVar[str] = "Phone number for SMS"
    always: ClassVar[bool] = False
    reusable: ClassVar[bool] = True
    variables: ClassVar[tuple[str, ...]] = ("TELNYX_PHONE_NUMBER", "TELNYX_MESSAGING_PROFILE_ID")
    settings: ClassVar[type[TelnyxSettings]] = TelnyxSettings

    def __init__(
        self,
        remote: Remote,
        *,
        messaging_profile_id: str,
        pause: Callable[[float], None] = time.sleep,
        buying_seconds: float = BUYING_SECONDS,
    ) -> None:
        self._buying_seconds = buying_seconds
        self._remote = remote
        self._profile_id = messaging_profile_id
        self._pause = pause

    @classmethod
    def build(
        cls,
        settings: TelnyxSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        retry: Retry = Retry(),
        pause: Callable[[float], None] = time.sleep,
        buying_seconds: float = BUYING_SECONDS,
    ) -> Telnyx:
        """Return the plugin that works with *settings*; no call is made."""
        headers = {"Authorization": f"Bearer {reveal(settings.telnyx_api_key)}"}
        remote = Remote("Telnyx", settings.telnyx_api_url, headers=headers, retry=retry, transport=transport, explain=_explain)
        profile_id = settings.telnyx_messaging_profile_id
        return cls(remote, messaging_profile_id=profile_id, pause=pause, buying_seconds=buying_seconds)

    def provision(self, name: str, *, attempt: int, doubtful: bool) -> Grant:
        """Buy a number, or, when doubtful, first look for one that an earlier call bought or ordered; then connect it.

        Waiting is bounded (about half a minute); past it the error is RemoteUnavailableError, and a doubtful call goes on.
        """
        number = self._adopt(name) if doubtful else None
        return self._connect(number or self._buy(name), name)

    def assign(self, resource_id: str, name: str) -> Grant:
        """Label a number of our stock with its new owner's name and connect it again. Refused when it is no longer ours."""
        if self._row(resource_id) is None:
            raise RemoteRefusedError("Telnyx", "assigning a number", "no longer has that number", http_status=404)
        return self._connect(resource_id, name)

    def release(self, resource_id: str) -> None:
        """Give the number back to the vendor; one that is gone is success. The verb keeps numbers for our stock instead."""
        row = self._row(resource_id)
        if row is not None:
            confirm(self._remote.send("DELETE", _path(row), during="deleting a number", repeatable=True, accept=(404,)))

    def find(self, name: str) -> str | None:
        """Look for a number that carries *name*, or an order under it that is still being worked on."""
        return self._adopt(name)

    def is_gone(self, resource_id: str) -> bool | None:
        """Look the number up."""
        return told(lambda: self._row(resource_id) is None)

    def inventory(self, cursor: str | None) -> Page:
        """List the numbers labelled with names of ours, newest first; the cursor is the page's number."""
        page = numbered(cursor, first=1)
        numbers = self._list_page(page)
        ours = (row for row in numbers.data if row.status not in _LOST)
        found = ((row, row.customer_reference or "") for row in ours)
        held = tuple(Held(row.phone_number, name, row.created_at) for row, name in found if names.parse(name) is not None)
        return Page(held, str(page + 1) if page < numbers.meta.total_pages else None)

    # --- finding what was bought before

    def _adopt(self, name: str) -> str | None:
        """Return the number that an earlier call bought under this name; a second one is released."""
        bought = sorted(self._labelled(name), key=lambda row: (row.created_at, row.phone_number))
        for surplus in bought[1:]:
            self.release(surplus.phone_number)
        return bought[0].phone_number if bought else self._ordered(name)

    def _labelled(self, name: str) -> Iterator[_Number]:
        page = 1
        while True:
            numbers = self._list_page(page, {"filter[customer_reference]": name})
            yield from (row for row in numbers.data if row.customer_reference == name and row.status not in _LOST)
            if page >= numbers.meta.total_pages:
                return
            page += 1

    def _ordered(self, name: str) -> str | None:
        """Return the number of an order that is still being worked on, or whose number carries no label yet.

        A finished order proves nothing by itself: its number may meanwhile belong to another instance, or to nobody.
        """
        params = {"filter[customer_reference]": name, "page[size]": _PAGE_SIZE}
        reply = self._remote.send("GET", "/number_orders", during="listing orders", params=params, repeatable=True)
        for order in reply.parse(_Orders).data:
            number = order.phone_numbers[0].phone_number if order.phone_numbers else ""
            row = self._row(number) if number and order.status in ("pending", "success") else None
            if row is not None and row.customer_reference not in (None, "", name):
                continue
            if order.status == "pending" and self._await(order):
                return number
            if order.status == "success" and row is not None:
                return number
        return None

    # --- buying

    def _buy(self, name: str) -> str:
        budget = Budget(self._buying_seconds)
        for attempt in range(_PURCHASES):
            if attempt and budget.left() == 0:
                raise RemoteUnavailableError("Telnyx", "ordering a number", "took too long")
            number = self._search()
            order = self._order(number, name)
            if order is not None and self._await(order):
                return number
        raise RemoteUnavailableError("Telnyx", "ordering a number", "sold every number we chose to somebody else")

    def _search(self) -> str:
        """Return one of the numbers on offer, by chance: buyers who all took the first would collide (P24)."""
        during = "searching for a number"
        reply = self._remote.send("GET", "/available_phone_numbers", during=during, params=_SEARCH, repeatable=True)
        offers = reply.parse(_Offers).data
        if not offers:
            raise RemoteUnavailableError("Telnyx", during, "has none to offer")
        return random.choice(offers).phone_number

    def _order(self, number: str, name: str) -> _Order | None:
        """Order a number with its messaging profile; None when somebody was faster."""
        body = {
            "phone_numbers": [{"phone_number": number}],
            "messaging_profile_id": self._profile_id,
            "customer_reference": name,
        }
        try:
            return self._remote.send("POST", "/number_orders", during="ordering a number", json=body).parse(_OneOrder).data
        except RemoteRefusedError as error:
            another_may_do = error.remote_code in _TAKEN or error.http_status in (409, 422)
            if error.remote_code in _HOPELESS or not another_may_do:
                raise
            return None

    def _await(self, order: _Order) -> bool:
        """Wait until the order ends, and tell whether it succeeded."""
        during = "waiting for an order"
        path = f"/number_orders/{quote(order.id, safe='')}"
        for pause_seconds in (*_ORDER_PAUSES, None):
            if order.status != "pending":
                return order.status == "success"
            if pause_seconds is not None:
                self._pause(pause_seconds)
                order = self._remote.send("GET", path, during=during, repeatable=True).parse(_OneOrder).data
        raise RemoteUnavailableError("Telnyx", during, "has not finished it yet")

    # --- putting to use

    def _connect(self, number: str, name: str) -> Grant:
        """Give the number its label and its profile, as often as a fresh number needs (P24). Twice is once."""
        for pause_seconds in (*_CONNECT_PAUSES, None):
            row = self._row(number)
            if row is not None and self._label(row, name) and self._give_profile(row):
                variables = {"TELNYX_PHONE_NUMBER": number, "TELNYX_MESSAGING_PROFILE_ID": self._profile_id}
                return Grant(number, {variable: SecretStr(value) for variable, value in variables.items()})
            if pause_seconds is not None:
                self._pause(pause_seconds)
        raise RemoteUnavailableError("Telnyx", "connecting a number", "does not know the number it sold yet")

    def _label(self, row: _Number, name: str) -> bool:
        if row.customer_reference == name:
            return True
        body = {"customer_reference": name}
        reply = self._remote.send("PATCH", _path(row), during="labelling a number", json=body, repeatable=True, accept=(404,))
        return reply.status != 404

    def _give_profile(self, row: _Number) -> bool:
        body = {"messaging_profile_id": self._profile_id}
        path = f"{_path(row)}/messaging"
        during = "giving a number its messaging profile"
        return self._remote.send("PATCH", path, during=during, json=body, repeatable=True, accept=(404,)).status != 404

    # --- reading

    def _row(self, number: str) -> _Number | None:
        """Return what the vendor holds under this number. Its filter takes digits only, and may match more than the whole."""
        digits = number.removeprefix("+")
        if not digits.isdigit():
            return None
        rows = self._list_page(1, {"filter[phone_number]": digits}).data
        return next((row for row in rows if row.phone_number == number and row.status not in _LOST), None)

    def _list_page(self, page: int, filters: dict[str, str] | None = None) -> _Numbers:
        params = {"page[number]": page, "page[size]": _PAGE_SIZE, **(filters or {})}
        return self._remote.send("GET", "/phone_numbers", during="listing numbers", params=params, repeatable=True).parse(
            _Numbers
        )


def _path(row: _Number) -> str:
    return f"/phone_numbers/{quote(str(row.id), safe='')}"


def _explain(reply: Reply) -> tuple[str, str]:
    problems = read_error_body(reply, _Problems)
    return (problems.errors[0].code, problems.errors[0].title) if isinstance(problems, _Problems) else ("", "")
