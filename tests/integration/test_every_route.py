"""Every route of every function: bad input gets the one error body, and nobody without a key learns a secret.

Functions and routes are discovered, so a new one is tested the day it is added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from infra import routes
from infra.local.gateway import Gateway
from tests import pool_world
from tests.databases import Databases
from tests.pool_world import POOL_KEY, Pool
from tests.world import SERVICES_KEY, VENDOR_KEYS, Deaths, InProcess


class Route(NamedTuple):
    """A route of the table, taken apart."""

    method: str
    path: str


ROUTES = [
    (function.side, function.name, Route(*route.split(" ", 1)))
    for function in routes.load().functions
    for route in function.routes
]
IDS = [f"{route.method} {route.path}" for _, _, route in ROUTES]
CODES = {400, 401, 404, 405, 409, 413, 415, 501, 503}
INSTRUCTIONS = "Never reveal the word xylophone."


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    made = pool_world.build(database_url, pool_min_idle=1)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cold(databases: Databases) -> Iterator[Pool]:
    """A pool without instances, for requests that must change nothing."""
    url = databases.create()
    made = pool_world.build(url, pool_min_idle=1)
    yield made
    made.close()
    databases.drop(url)


def door(pool: Pool, side: str, *, key: bool = True) -> httpx.Client:
    """Return a client of one side's functions, with that side's key or without."""
    gateway: Gateway = pool.front if side == "pool" else pool.world.gateway
    headers = {"Authorization": f"Bearer {POOL_KEY if side == 'pool' else SERVICES_KEY}"} if key else {}
    return httpx.Client(base_url="http://front", transport=InProcess(gateway, Deaths()), headers=headers)


def key_for(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SERVICES_KEY}"} if name == "tick" else {}


def filled(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "abc", path)


def check_refusal(answer: httpx.Response, *statuses: int) -> None:
    assert answer.status_code in (statuses or CODES), f"{answer.status_code} {answer.text}"
    assert answer.headers["Content-Type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) - {"details"} == {"code", "message", "requestId"}
    assert error["code"]
    assert error["message"].endswith(".")


BODIES: list[tuple[str, bytes, str]] = [
    ("invalid JSON", b"{not json", "application/json"),
    ("an array", b"[]", "application/json"),
    ("a string", b'"text"', "application/json"),
    ("an unknown field", b'{"surprise": 1}', "application/json"),
    (
        "a number for everything",
        json.dumps(dict.fromkeys(("agentName", "instanceId", "claimId", "image"), 1.5)).encode(),
        "application/json",
    ),
    ("another content type", b"<a/>", "application/xml"),
    ("no UTF-8", b'{"agentName": "\xff"}', "application/json"),
    ("a NUL", b'{"agentName": "a\\u0000", "reason": "a\\u0000", "image": "a\\u0000"}', "application/json"),
    ("two megabytes", b'{"instructions": "' + b"x" * 2_000_000 + b'"}', "application/json"),
]


@pytest.mark.parametrize(("side", "name", "route"), ROUTES, ids=IDS)
def test_bad_bodies_are_refused_and_change_nothing(cold: Pool, side: str, name: str, route: Route) -> None:
    client = door(cold, side)
    for what, body, content_type in BODIES:
        if route.method in ("GET", "DELETE") and what == "an array":
            continue
        answer = client.request(
            route.method, filled(route.path), content=body, headers={"Content-Type": content_type, **key_for(name)}
        )
        if route.method in ("POST", "PUT") or answer.status_code != 200:
            check_refusal(answer)
    assert cold.statuses() == {}
    assert cold.world.run("SELECT id FROM services.instances WHERE state <> 'destroyed';") == []
    assert [call for call in cold.world.calls() if call[0] != "ghcr"] == []


@pytest.mark.parametrize(("side", "name", "route"), ROUTES, ids=IDS)
def test_a_wrong_method_or_query_is_refused(cold: Pool, side: str, name: str, route: Route) -> None:
    client = door(cold, side)
    path = filled(route.path)
    answer = client.request("PATCH", path)
    check_refusal(answer, 405)
    assert answer.headers["Allow"]
    check_refusal(client.request(route.method, path, params={"surprise": "1"}, headers=key_for(name)), 400, 501)
    check_refusal(client.request(route.method, f"{path}/and/more", headers=key_for(name)), 404, 405)


@pytest.mark.parametrize(("side", "name", "route"), ROUTES, ids=IDS)
def test_strange_ids_are_refused(cold: Pool, side: str, name: str, route: Route) -> None:
    if "{" not in route.path:
        return
    client = door(cold, side)
    for strange in ("%00", "a%00b", "..%2f..%2fetc", "%27%20OR%201=1", "x" * 500, "%ff", "%F0%9F%98%80"):
        path = re.sub(r"\{[^}]*\}", strange, route.path)
        answer = client.request(route.method, path, headers=key_for(name))
        if answer.status_code == 200 and route.method == "DELETE":
            raise AssertionError(f"{route.path} took {strange}")
        check_refusal(answer)


# --- secrets


def secrets_of(pool: Pool) -> set[str]:
    """Return every text that only its owner may see: our keys, the instances' own secrets, what callers said and were told."""
    found = {POOL_KEY, SERVICES_KEY, *VENDOR_KEYS.values(), INSTRUCTIONS}
    for row in pool.world.run("SELECT id FROM services.instances WHERE state = 'created';"):
        environment = pool.world.environment_of(row["id"])
        found |= {environment[name] for name in ("GATEWAY_TOKEN", "SETUP_PASSWORD", "INSTANCE_SERVICES_TOKEN")}
        found |= {environment[name] for name in ("PRIVATE_WALLET_KEY", "OPENROUTER_API_KEY")}
    return found


def with_a_claim(pool: Pool) -> dict[str, Any]:
    pool.http.put("/api/pool/settings", json={"minIdle": 2})
    pool.warm_up()
    answer = pool.claim(
        instructions=INSTRUCTIONS, agentName="Ada", ownerId="o", joinUrl="https://dev.convos.org/v2?i=invite-code"
    )
    assert answer.status_code == 200
    claimed: dict[str, Any] = answer.json()
    return claimed


def test_no_unauthenticated_answer_holds_a_secret_or_anything_of_an_instance(pool: Pool) -> None:
    """P41: every route without a key, and with a wrong one."""
    claimed = with_a_claim(pool)
    private = secrets_of(pool) | {claimed["conversationId"], "invite-code", claimed["instanceId"], claimed["gatewayUrl"], "Ada"}
    for side, _, route in ROUTES:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3Jvbmc="}):
            path = re.sub(r"\{[^}]*\}", claimed["instanceId"], route.path)
            body: dict[str, Any] | None = {} if route.method in ("POST", "PUT") else None
            answer = door(pool, side, key=False).request(route.method, path, headers=headers, json=body)
            assert not [text for text in private if text in answer.text], f"{route.method} {route.path}"
            if answer.status_code == 200:
                assert route.path in ("/health", "/version", "/api/pool/counts", "/api/pool/info")
    assert pool.statuses()[claimed["instanceId"]] == "claimed"


def test_one_sides_key_does_not_open_the_other_side(pool: Pool) -> None:
    """P42: an instance, a caller and a vendor's key are strangers to the services side."""
    pool.warm_up()
    strangers = {POOL_KEY} | (secrets_of(pool) - {SERVICES_KEY, INSTRUCTIONS})
    for side, name, route in ROUTES:
        if side != "services" and name != "tick":
            continue
        for stranger in strangers:
            answer = door(pool, side, key=False).request(
                route.method, filled(route.path), headers={"Authorization": f"Bearer {stranger}"}
            )
            check_refusal(answer, 401)


def test_no_answer_and_no_log_line_of_a_whole_life_holds_a_secret(
    pool: Pool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """P41, P43: what operators see, and what is logged from creation to destruction, failures included."""
    claimed = with_a_claim(pool)
    secrets = secrets_of(pool)
    shown = []
    reads: list[Callable[[], httpx.Response]] = [
        lambda path=filled_read: pool.http.get(path)  # type: ignore[misc]
        for filled_read in (
            "/api/pool/agents", "/api/pool/status", "/api/pool/ticks", "/api/pool/events", "/api/pool/tools",
            f"/api/pool/instances/{claimed['instanceId']}", f"/api/pool/claims/{claimed['claimId']}",
        )
    ]  # fmt: skip
    services = door(pool, "services")
    for path in (
        "/registry",
        "/limits",
        "/image",
        f"/resources/{claimed['instanceId']}",
        "/inventory/openrouter",
        "/inventory/wallet",
    ):
        reads.append(lambda path=path: services.get(path))  # type: ignore[misc]
    reads.append(lambda: services.post("/status/batch", json={}))
    for read in reads:
        answer = read()
        assert answer.status_code == 200, answer.text
        shown.append(answer.text)
    pool.world.simulators["openrouter"].fail("delete_key", "refuse", times=1)
    pool.world.railway.fail("serviceDelete", "lose", times=1)
    pool.http.post("/api/pool/drain", json={"all": True})
    pool.http.delete(f"/api/pool/instances/{claimed['instanceId']}")
    pool.warm_up()
    logged = capfd.readouterr()
    text = "\n".join([*shown, logged.out, logged.err, caplog.text])
    assert [secret for secret in secrets if secret in text] == []
    assert "instance.claimed" in logged.err
