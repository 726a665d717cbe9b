"""What only OpenRouter does: keys shown once, names that are not unique, a listing that moves while it is read."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from werkzeug.wrappers import Request, Response

from infra.local.simulators.openrouter import OpenRouterSimulator
from shared.errors import SettingsError
from shared.remote import NO_RETRY
from shared.services import names
from shared.services.plugins.openrouter import OpenRouter, OpenRouterSettings
from shared.settings import load

NAME = names.make("test", "a1")
ENVIRONMENT = {"OPENROUTER_API_URL": "http://vendor/api/v1", "OPENROUTER_MANAGEMENT_KEY": "management"}


def plugin(simulator: OpenRouterSimulator, **settings: str) -> OpenRouter:
    loaded = load(OpenRouterSettings, {**ENVIRONMENT, **settings})
    return OpenRouter.build(loaded, transport=httpx.WSGITransport(simulator), retry=NO_RETRY)


def buy(vendor: OpenRouter, name: str = NAME, *, doubtful: bool = False) -> str:
    return vendor.provision(name, attempt=1, doubtful=doubtful).resource_id


def test_a_first_purchase_is_one_call() -> None:
    """P9: nothing but what is needed stands between a caller and an agent."""
    simulator = OpenRouterSimulator(management_key="management")
    buy(plugin(simulator))
    assert simulator.operations() == ["create_key"]


def test_a_key_carries_the_limit_of_the_settings() -> None:
    simulator = OpenRouterSimulator(management_key="management")
    key = simulator._keys[buy(plugin(simulator, OPENROUTER_KEY_LIMIT="7.5", OPENROUTER_KEY_LIMIT_RESET="daily"))]
    assert (key["limit"], key["limit_reset"]) == (7.5, "daily")


def test_a_key_is_limited_to_20_dollars_a_month_unless_told_otherwise() -> None:
    simulator = OpenRouterSimulator(management_key="management")
    key = simulator._keys[buy(plugin(simulator))]
    assert (key["limit"], key["limit_reset"]) == (20, "monthly")


@pytest.mark.parametrize(("name", "value"), [("OPENROUTER_KEY_LIMIT", "0"), ("OPENROUTER_KEY_LIMIT_RESET", "yearly")])
def test_a_senseless_limit_is_refused_before_anything_is_bought(name: str, value: str) -> None:
    """P18."""
    with pytest.raises(SettingsError, match=name):
        load(OpenRouterSettings, {**ENVIRONMENT, name: value})


def test_a_lost_key_is_found_behind_hundreds_of_newer_ones() -> None:
    """P35: the listing is read to its end."""
    simulator = OpenRouterSimulator(management_key="management")
    vendor = plugin(simulator)
    lost = buy(vendor)
    for number in range(250):
        buy(vendor, names.make("test", f"n{number}"))
    again = buy(vendor, doubtful=True)
    held = simulator.inventory()
    assert lost not in held
    assert list(held.values()).count(NAME) == 1
    assert held[again] == NAME
    assert simulator.operations().count("list_keys") == 4, "three pages, and a look behind the last one"


def test_of_several_keys_of_one_instance_none_survives_a_doubtful_purchase() -> None:
    simulator = OpenRouterSimulator(management_key="management")
    vendor = plugin(simulator)
    buy(vendor)
    buy(vendor)
    buy(vendor, names.make("test", "a1", attempt=2))
    last = buy(vendor, names.make("test", "a1", attempt=3), doubtful=True)
    assert simulator.inventory() == {last: f"{NAME}.3"}


def test_a_disabled_key_is_deleted_too() -> None:
    simulator = OpenRouterSimulator(management_key="management")
    vendor = plugin(simulator)
    simulator._keys[buy(vendor)]["disabled"] = True
    again = buy(vendor, doubtful=True)
    assert list(simulator.inventory()) == [again]


class Shrinking(OpenRouterSimulator):
    """Between two pages, somebody deletes the newest keys, and every older one moves up."""

    def list_keys(self, request: Request) -> Response:
        response = super().list_keys(request)
        for _ in range(5):
            self._keys.popitem()
        return response


def test_keys_deleted_while_we_read_hide_no_other_key() -> None:
    """P35."""
    simulator = Shrinking(management_key="management", page_size=20)
    vendor = plugin(simulator)
    oldest = [buy(vendor, names.make("test", f"o{number}")) for number in range(30)]
    for number in range(30):
        buy(vendor, names.make("test", f"n{number}"))
    found: set[str] = set()
    cursor: str | None = None
    while True:
        page = vendor.inventory(cursor)
        found |= {held.resource_id for held in page.held}
        cursor = page.next_cursor
        if cursor is None:
            break
    assert set(oldest) <= found


def test_an_id_is_quoted_in_the_address() -> None:
    simulator = OpenRouterSimulator(management_key="management")
    vendor = plugin(simulator)
    buy(vendor)
    vendor.release("../keys?x=1")
    arguments: list[dict[str, Any]] = [call.arguments for call in simulator.calls if call.operation == "delete_key"]
    assert len(simulator.inventory()) == 1
    assert arguments == []
