"""The stand-ins are as strict as the vendors: keys, error bodies, paging, limits, secrets shown once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from infra.local.simulators.agentmail import AgentMailSimulator
from infra.local.simulators.bankr import BankrSimulator
from infra.local.simulators.base import Simulator
from infra.local.simulators.openrouter import OpenRouterSimulator
from infra.local.simulators.telnyx import TelnyxSimulator
from infra.local.simulators.throttle import Throttle


def client(simulator: Simulator, **headers: str) -> httpx.Client:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Client(transport=httpx.WSGITransport(simulator), base_url="http://vendor", headers=named)


def bearer(simulator: Simulator, key: str = "ours") -> httpx.Client:
    return client(simulator, Authorization=f"Bearer {key}")


def openrouter(**options: Any) -> OpenRouterSimulator:
    return OpenRouterSimulator(management_key="ours", **options)


def agentmail(**options: Any) -> AgentMailSimulator:
    return AgentMailSimulator(api_key="ours", **options)


def telnyx(**options: Any) -> TelnyxSimulator:
    return TelnyxSimulator(api_key="ours", messaging_profile_id="profile-1", **options)


def bankr(**options: Any) -> BankrSimulator:
    return BankrSimulator(partner_key="ours", **options)


FACTORIES: tuple[tuple[Callable[..., Simulator], str, tuple[str, ...]], ...] = (
    (openrouter, "/api/v1/keys", ("error", "message")),
    (agentmail, "/v0/inboxes", ("code",)),
    (telnyx, "/v2/phone_numbers", ("errors", "0", "code")),
    (bankr, "/partner/wallets/wlt_1", ("error",)),
)
every_simulator = pytest.mark.parametrize(
    ("make", "path", "where"), FACTORIES, ids=lambda value: getattr(value, "__name__", None)
)


def dig(body: Any, where: tuple[str, ...]) -> Any:
    for step in where:
        body = body[int(step)] if step.isdigit() else body[step]
    return body


@every_simulator
def test_without_or_with_a_wrong_key_it_answers_401_in_the_vendors_form(
    make: Callable[..., Simulator], path: str, where: tuple[str, ...]
) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong", "X_Partner_Key": "wrong"}, {"Authorization": "bearer ours"}):
        reply = client(make(), **headers).get(path)
        assert reply.status_code == 401
        assert dig(reply.json(), where)


@every_simulator
def test_a_route_that_does_not_exist_is_a_404_in_the_vendors_form(
    make: Callable[..., Simulator], path: str, where: tuple[str, ...]
) -> None:
    reply = client(make(), Authorization="Bearer ours", X_Partner_Key="ours").get("/nowhere")
    assert reply.status_code == 404
    assert dig(reply.json(), where)


@every_simulator
def test_a_throttled_simulator_answers_429_and_says_how_long(
    make: Callable[..., Simulator], path: str, where: tuple[str, ...]
) -> None:
    now = [100.0]
    http = client(
        make(throttle=Throttle(2, window_seconds=30, clock=lambda: now[0])), Authorization="Bearer ours", X_Partner_Key="ours"
    )
    assert [http.get(path).status_code == 429 for _ in range(3)] == [False, False, True]
    now[0] += 10
    refused = http.get(path)
    assert refused.headers.get("Retry-After") or refused.headers["x-ratelimit-reset"] == "20"
    now[0] += 20
    assert http.get(path).status_code != 429


# --- OpenRouter


def test_openrouter_shows_a_key_once_and_the_key_works_until_it_is_deleted() -> None:
    simulator = openrouter()
    management = bearer(simulator)
    created = management.post("/api/v1/keys", json={"name": "a", "limit": 20, "limit_reset": "monthly"})
    assert created.status_code == 201
    key, hash_ = created.json()["key"], created.json()["data"]["hash"]
    assert key not in management.get("/api/v1/keys").text
    assert key not in management.get(f"/api/v1/keys/{hash_}").text
    assert bearer(simulator, key).get("/api/v1/key").json()["data"]["limit"] == 20
    assert management.delete(f"/api/v1/keys/{hash_}").json() == {"deleted": True}
    assert bearer(simulator, key).get("/api/v1/key").status_code == 401
    assert management.delete(f"/api/v1/keys/{hash_}").status_code == 404


def test_openrouter_lets_no_model_key_administer_keys() -> None:
    simulator = openrouter()
    key = bearer(simulator).post("/api/v1/keys", json={"name": "a"}).json()["key"]
    assert bearer(simulator, key).get("/api/v1/keys").status_code == 401


def test_openrouter_sells_the_same_name_twice() -> None:
    simulator = openrouter()
    for _ in range(2):
        bearer(simulator).post("/api/v1/keys", json={"name": "a"})
    assert list(simulator.inventory().values()) == ["a", "a"]


def test_openrouter_lists_a_hundred_newest_first_and_hides_disabled_ones() -> None:
    simulator = openrouter()
    http = bearer(simulator)
    for number in range(101):
        http.post("/api/v1/keys", json={"name": f"n{number}"})
    first = http.get("/api/v1/keys", params={"offset": 0}).json()["data"]
    assert (len(first), first[0]["name"]) == (100, "n100")
    assert [key["name"] for key in http.get("/api/v1/keys", params={"offset": 100}).json()["data"]] == ["n0"]
    simulator._keys[first[0]["hash"]]["disabled"] = True
    assert http.get("/api/v1/keys").json()["data"][0]["name"] == "n99"
    assert http.get("/api/v1/keys", params={"include_disabled": "true"}).json()["data"][0]["name"] == "n100"


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a", "limit_reset": "yearly"}, {"name": "a", "limit": "much"}])
def test_openrouter_refuses_nonsense(body: dict[str, Any]) -> None:
    assert bearer(openrouter()).post("/api/v1/keys", json=body).status_code == 400


# --- AgentMail


def test_agentmail_answers_a_known_client_id_with_the_same_inbox_whatever_else_is_asked() -> None:
    simulator = agentmail()
    http = bearer(simulator)
    first = http.post("/v0/inboxes", json={"client_id": "a"}).json()
    assert http.post("/v0/inboxes", json={"client_id": "a", "username": "other"}).json() == first
    assert simulator.inventory() == {first["inbox_id"]: "a"}


@pytest.mark.parametrize("client_id", ["", "a@b", "a b", "x" * 257])
def test_agentmail_refuses_a_malformed_client_id(client_id: str) -> None:
    assert bearer(agentmail()).post("/v0/inboxes", json={"client_id": client_id}).json()["code"] == "validation_error"


def test_agentmail_has_limits_and_unique_addresses() -> None:
    http = bearer(agentmail(inbox_limit=1))
    assert http.post("/v0/inboxes", json={"domain": "not.verified"}).json()["code"] == "domain_not_verified"
    assert http.post("/v0/inboxes", json={"username": "a"}).status_code == 200
    assert http.post("/v0/inboxes", json={"username": "b"}).json()["code"] == "limit_exceeded"
    assert bearer(agentmail()).post("/v0/inboxes", json={"username": "a"}).status_code == 200


def test_agentmail_tells_a_taken_address() -> None:
    http = bearer(agentmail())
    http.post("/v0/inboxes", json={"username": "a"})
    assert http.post("/v0/inboxes", json={"username": "a"}).json()["code"] == "resource_taken"


def test_agentmail_pages_by_token_newest_first() -> None:
    http = bearer(agentmail())
    made = [http.post("/v0/inboxes", json={}).json()["inbox_id"] for _ in range(5)]
    found: list[str] = []
    token: str | None = None
    while True:
        body = http.get("/v0/inboxes", params={"limit": "2", "page_token": token or "0"}).json()
        found += [inbox["inbox_id"] for inbox in body["inboxes"]]
        token = body.get("next_page_token")
        if token is None:
            break
    assert found == made[::-1]
    assert http.get("/v0/inboxes", params={"limit": 101}).status_code == 400


def test_agentmail_deletes_with_204_and_then_knows_nothing() -> None:
    http = bearer(agentmail())
    inbox_id = http.post("/v0/inboxes", json={}).json()["inbox_id"]
    http.post(f"/v0/inboxes/{inbox_id}/api-keys", json={"name": "k"})
    assert http.delete(f"/v0/inboxes/{inbox_id}").status_code == 204
    for path in (f"/v0/inboxes/{inbox_id}", f"/v0/inboxes/{inbox_id}/api-keys"):
        assert http.get(path).json()["code"] == "not_found"


def test_agentmail_shows_an_inbox_key_once() -> None:
    http = bearer(agentmail())
    inbox_id = http.post("/v0/inboxes", json={}).json()["inbox_id"]
    secret = http.post(f"/v0/inboxes/{inbox_id}/api-keys", json={"name": "k"}).json()["api_key"]
    assert secret not in http.get(f"/v0/inboxes/{inbox_id}/api-keys").text


# --- Telnyx


def search(http: httpx.Client, limit: int = 20) -> list[str]:
    params = {"filter[country_code]": "US", "filter[features][]": "sms", "filter[limit]": str(limit)}
    return [row["phone_number"] for row in http.get("/v2/available_phone_numbers", params=params).json()["data"]]


def order(http: httpx.Client, number: str, **fields: str) -> httpx.Response:
    return http.post("/v2/number_orders", json={"phone_numbers": [{"phone_number": number}], **fields})


def test_telnyx_sells_only_what_its_search_showed() -> None:
    http = bearer(telnyx())
    refused = order(http, "+14152000000")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "85000")
    assert order(http, search(http)[0]).status_code == 200


def test_telnyx_sells_a_number_once() -> None:
    http = bearer(telnyx())
    number = search(http)[0]
    order(http, number)
    assert order(http, number).json()["errors"][0]["code"] == "85001"
    assert number not in search(http)


def test_telnyx_tells_a_wrong_messaging_profile() -> None:
    http = bearer(telnyx())
    assert order(http, search(http)[0], messaging_profile_id="other").json()["errors"][0]["code"] == "85005"


def test_telnyx_takes_its_time_with_the_order_the_number_and_the_messaging() -> None:
    """P24."""
    now = [0.0]
    http = bearer(telnyx(order_seconds=5, messaging_seconds=5, clock=lambda: now[0]))
    number = search(http)[0]
    order_id = order(http, number, customer_reference="a").json()["data"]["id"]

    def seen() -> tuple[str, str, int]:
        row = http.get("/v2/phone_numbers").json()["data"][0]
        messaging = http.patch(f"/v2/phone_numbers/{row['id']}/messaging", json={"messaging_profile_id": "profile-1"})
        status = http.get(f"/v2/number_orders/{order_id}").json()["data"]["status"]
        return (status, row["status"], messaging.status_code)

    assert seen() == ("pending", "purchase-pending", 404)
    now[0] = 6
    assert seen() == ("success", "active", 404)
    now[0] = 11
    assert seen() == ("success", "active", 200)


def test_telnyx_lets_an_order_fail() -> None:
    simulator = telnyx(order_seconds=0)
    simulator.failing_orders = 1
    http = bearer(simulator)
    order_id = order(http, search(http)[0]).json()["data"]["id"]
    assert http.get(f"/v2/number_orders/{order_id}").json()["data"]["status"] == "failure"
    assert simulator.inventory() == {}


def test_telnyx_holds_a_deleted_number_back() -> None:
    simulator = telnyx(order_seconds=0)
    http = bearer(simulator)
    number = search(http)[0]
    order(http, number)
    identity = http.get("/v2/phone_numbers").json()["data"][0]["id"]
    assert http.delete(f"/v2/phone_numbers/{identity}").json()["data"]["status"] == "deleted"
    assert http.delete(f"/v2/phone_numbers/{identity}").json()["errors"][0]["code"] == "10005"
    assert simulator.inventory() == {}
    assert number not in search(http)


def test_telnyx_filters_numbers_by_digits_only_and_by_label() -> None:
    http = bearer(telnyx(order_seconds=0))
    first, second = search(http)[:2]
    order(http, first, customer_reference="a")
    order(http, second, customer_reference="b")

    def found(**filters: str) -> list[str]:
        params = {f"filter[{name}]": value for name, value in filters.items()}
        return [row["phone_number"] for row in http.get("/v2/phone_numbers", params=params).json()["data"]]

    assert found(phone_number=first[1:]) == [first]
    assert found(phone_number=first) == []
    assert sorted(found(phone_number="1415")) == sorted([first, second])
    assert found(customer_reference="b") == [second]
    assert http.get("/v2/phone_numbers", params={"filter[phone_number]": "14"}).status_code == 400


def test_telnyx_pages_twenty_at_a_time_and_250_at_most() -> None:
    http = bearer(telnyx(order_seconds=0))
    for number in search(http, 21):
        order(http, number)
    body = http.get("/v2/phone_numbers").json()
    assert len(body["data"]) == 20
    assert body["meta"] == {"page_number": 1, "page_size": 20, "total_pages": 2, "total_results": 21}
    assert http.get("/v2/phone_numbers", params={"page[size]": 251}).status_code == 400


# --- Bankr


def partner(simulator: BankrSimulator) -> httpx.Client:
    return client(simulator, X_Partner_Key="ours")


def test_bankr_repeats_a_creation_with_200_and_without_the_key() -> None:
    simulator = bankr()
    http = partner(simulator)
    first = http.post("/partner/wallets", json={"idempotencyKey": "a", "apiKey": {}})
    again = http.post("/partner/wallets", json={"idempotencyKey": "a", "apiKey": {}})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert "apiKey" in first.json()
    assert "apiKey" not in again.json()
    assert simulator.inventory() == {first.json()["id"]: "a"}


def test_bankr_revokes_all_keys_of_a_wallet_and_of_no_other() -> None:
    simulator = bankr()
    http = partner(simulator)
    one, other = (http.post("/partner/wallets", json={"idempotencyKey": name, "apiKey": {}}).json() for name in "ab")
    http.delete(f"/partner/wallets/{one['id']}/api-keys")
    assert client(simulator, X_API_Key=one["apiKey"]).get("/wallet/me").status_code == 401
    assert client(simulator, X_API_Key=other["apiKey"]).get("/wallet/me").status_code == 200


def test_bankr_keys_are_read_only_unless_asked_otherwise() -> None:
    simulator = bankr()
    partner(simulator).post("/partner/wallets", json={"idempotencyKey": "a", "apiKey": {}})
    assert simulator.keys()[0]["permissions"]["readOnly"] is True


def test_bankr_closes_a_wallet_once_and_for_good() -> None:
    simulator = bankr()
    http = partner(simulator)
    wallet = http.post("/partner/wallets", json={"idempotencyKey": "a"}).json()["id"]
    assert http.post(f"/partner/wallets/{wallet}/close", json={}).json() == {"status": "closed"}
    assert http.post(f"/partner/wallets/{wallet}/close", json={}).status_code == 409
    assert http.get(f"/partner/wallets/{wallet}").json()["status"] == "closed"
    assert http.post(f"/partner/wallets/{wallet}/api-keys", json={}).status_code == 409
    assert http.post("/partner/wallets", json={"idempotencyKey": "a"}).json()["id"] == wallet
    assert simulator.inventory() == {}
