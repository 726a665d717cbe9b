"""What operators do, through the front door: once, repeated, raced, and while things fail."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from shared.pool.lifecycle import Status
from tests.factories import insert_instance, query
from tests.pool_world import Pool


def check_error(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code


def deletions(pool: Pool) -> int:
    return pool.world.calls().count(("railway", "serviceDelete"))


def test_a_kill_takes_everything_down_and_a_second_one_is_quiet(pool: Pool) -> None:
    """P30: one delete at the provider, and both answers are 200."""
    claimed = pool.claim().json()
    first = pool.http.delete(f"/api/pool/instances/{claimed['instanceId']}")
    second = pool.http.delete(f"/api/pool/instances/{claimed['instanceId']}")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["operationId"] == second.json()["operationId"]
    assert (first.json()["status"], first.json()["done"], first.json()["total"]) == ("done", 1, 1)
    assert deletions(pool) == 1
    assert claimed["instanceId"] not in pool.statuses()
    assert pool.world.inventories() == pool.world.tables()
    assert pool.http.get(f"/api/pool/claims/{claimed['claimId']}").json()["status"] == "ended"


def test_kills_at_once_lead_to_one_deletion(pool: Pool) -> None:
    """P30."""
    name = next(iter(pool.statuses()))
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: pool.http.delete(f"/api/pool/instances/{name}"), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    pool.let_time_pass()
    pool.tick()
    assert name not in pool.statuses()
    assert deletions(pool) == 1


def test_killing_what_never_was_is_404(pool: Pool) -> None:
    check_error(pool.http.delete("/api/pool/instances/nothing"), 404, "not_found")


def test_only_a_crashed_one_can_be_dismissed(pool: Pool) -> None:
    name = next(iter(pool.statuses()))
    check_error(pool.http.delete(f"/api/pool/crashed/{name}"), 409, "illegal_move")
    insert_instance(pool.db, "broken", Status.CRASHED)
    assert pool.http.delete("/api/pool/crashed/broken").status_code == 200


def test_a_drain_with_pause_stays_drained(pool: Pool) -> None:
    """P28, P29: claimed ones are left alone, and the next tick does not undo it."""
    claimed = pool.claim().json()["instanceId"]
    answer = pool.http.post("/api/pool/drain", json={"all": True, "pause": True})
    assert (answer.status_code, answer.json()["total"]) == (200, 2)
    for _ in range(2):
        pool.let_time_pass()
        pool.tick()
    assert pool.statuses() == {claimed: "claimed"}
    assert any("paused by a drain" in warning for warning in pool.http.get("/api/pool/status").json()["warnings"])
    check_error(pool.http.post("/api/pool/replenish", json={}), 409, "paused")
    assert pool.http.post("/api/pool/resume").json()["paused"] is False
    pool.warm_up()


def test_a_drain_of_some_takes_the_oldest_and_may_lower_the_target(pool: Pool) -> None:
    insert_instance(pool.db, "oldest", age=9999)
    answer = pool.http.post("/api/pool/drain", json={"count": 1, "minIdle": 1})
    assert answer.json()["instanceIds"] == ["oldest"]
    assert pool.http.get("/api/pool/counts").json()["target"] == 1


def test_a_drain_must_say_how_many(pool: Pool) -> None:
    check_error(pool.http.post("/api/pool/drain", json={}), 400, "invalid_request")
    check_error(pool.http.post("/api/pool/drain", json={"count": 1, "all": True}), 400, "invalid_request")


def test_drains_kills_claims_and_ticks_may_run_together(make_pool: Callable[..., Pool]) -> None:
    """P1, P28: whatever interleaves, no instance is both somebody's and destroyed, and nothing is left over."""
    pool = make_pool(pool_min_idle=12, pool_create_concurrency=12)
    pool.warm_up()
    names = list(pool.statuses())
    with ThreadPoolExecutor(10) as threads:
        claims = [threads.submit(pool.claim) for _ in range(12)]
        others = [threads.submit(pool.http.post, "/api/pool/drain", json={"count": 3}) for _ in range(2)]
        others += [threads.submit(pool.http.delete, f"/api/pool/instances/{name}") for name in names[:3]]
        ticks = [threads.submit(pool.tick) for _ in range(3)]
        won = [answer.json()["instanceId"] for answer in (future.result() for future in claims) if answer.status_code == 200]
        killed = {name for future in others for name in future.result().json()["instanceIds"]}
        for future in ticks:
            future.result()
    assert len(won) == len(set(won))
    kept = pool.statuses()
    assert all(kept.get(name) == "claimed" for name in won if name not in killed)
    assert set(killed) - set(won) <= {name for name in names if kept.get(name) in (None, "destroying")}
    pool.warm_up()
    pool.let_time_pass()
    pool.tick()
    assert pool.world.inventories() == pool.world.tables()


def test_replenish_fills_up_to_the_target_now(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(pool_min_idle=4)
    answer = pool.http.post("/api/pool/replenish", json={"count": 2})
    assert (answer.status_code, answer.json()["total"]) == (202, 2)
    assert len(pool.http.post("/api/pool/replenish", json={}).json()["instanceIds"]) == 2
    assert pool.http.post("/api/pool/replenish", json={}).json()["status"] == "done"
    pool.warm_up()
    assert pool.http.get(f"/api/pool/operations/{answer.json()['operationId']}").json()["status"] == "done"


def test_a_redeployment_starts_a_new_deployment(pool: Pool) -> None:
    """P40."""
    name = next(iter(pool.statuses()))
    service_id = pool.world.run("SELECT service_id FROM services.instances WHERE id = :id;", id=name)[0]["service_id"]
    before = len(pool.world.railway.deployments_of(service_id))
    answer = pool.http.post(f"/api/pool/instances/{name}/redeploy")
    assert pool.statuses()[name] == "starting", "nobody is to get it while it restarts"
    assert (answer.status_code, answer.json()["status"]) == (200, "done"), answer.text
    assert len(pool.world.railway.deployments_of(service_id)) == before + 1
    check_error(pool.http.post("/api/pool/instances/nothing/redeploy"), 404, "not_found")


def test_a_redeployment_that_could_not_start_is_carried_on_by_the_tick(pool: Pool) -> None:
    name = next(iter(pool.statuses()))
    pool.world.railway.fail("environmentPatchCommit", "refuse", status=503)
    answer = pool.http.post(f"/api/pool/instances/{name}/redeploy")
    assert answer.status_code == 202
    pool.let_time_pass()
    pool.tick()
    assert pool.http.get(f"/api/pool/operations/{answer.json()['operationId']}").json()["status"] == "done"


def test_a_redeployment_during_other_work_waits_for_its_turn(pool: Pool) -> None:
    """A busy instance is no refusal: the tick asks again."""
    name = next(iter(pool.statuses()))
    busy = (
        "UPDATE services.instances SET worker = gen_random_uuid(), worker_expires_at = now() + interval '1 min' WHERE id = :id;"
    )
    pool.world.run(busy, id=name)
    answer = pool.http.post(f"/api/pool/instances/{name}/redeploy")
    assert answer.status_code == 202, answer.text
    pool.let_time_pass()
    pool.tick()
    assert pool.http.get(f"/api/pool/operations/{answer.json()['operationId']}").json()["status"] == "done"


def test_a_redeployment_that_is_never_confirmed_is_given_up(pool: Pool) -> None:
    """Else an answer that is always lost would restart an agent with every tick."""
    name = next(iter(pool.statuses()))
    pool.world.railway.fail("environmentPatchCommit", "lose", times=None)
    operation = pool.http.post(f"/api/pool/instances/{name}/redeploy").json()["operationId"]
    pool.db.run(query("UPDATE pool.operations SET created_at = created_at - interval '20 minutes'"))
    calls = pool.world.calls().count(("railway", "environmentPatchCommit"))
    pool.let_time_pass()
    pool.tick()
    found = pool.http.get(f"/api/pool/operations/{operation}").json()
    assert (found["status"], "may have happened" in found["problem"]) == ("failed", True)
    assert pool.world.calls().count(("railway", "environmentPatchCommit")) == calls


def test_settings_are_live(pool: Pool) -> None:
    settings = pool.http.get("/api/pool/settings").json()
    changed = pool.http.put("/api/pool/settings", json={"minIdle": 5, "version": settings["version"]})
    assert changed.json()["minIdle"] == 5
    stale = pool.http.put("/api/pool/settings", json={"minIdle": 6, "version": settings["version"]})
    check_error(stale, 412, "precondition_failed")
    check_error(pool.http.put("/api/pool/settings", json={}), 400, "invalid_request")
    pool.warm_up()
    assert list(pool.statuses().values()).count("idle") == 5
    pool.http.put("/api/pool/settings", json={"minIdle": 2})
    pool.let_time_pass()
    pool.tick()
    assert list(pool.statuses().values()).count("idle") == 2


def test_agents_are_listed_by_page_and_by_status(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool()
    for number in range(7):
        insert_instance(pool.db, f"i{number}", Status.CLAIMED if number % 2 else Status.IDLE, age=100 - number)
    found: list[str] = []
    cursor = None
    while True:
        params = {"limit": "3", **({"cursor": cursor} if cursor else {})}
        page = pool.http.get("/api/pool/agents", params=params).json()
        found += [agent["instanceId"] for agent in page["agents"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == [f"i{number}" for number in range(7)]
    claimed = pool.http.get("/api/pool/agents", params={"status": "claimed"}).json()["agents"]
    assert {agent["instanceId"] for agent in claimed} == {"i1", "i3", "i5"}
    check_error(pool.http.get("/api/pool/agents", params={"status": "asleep"}), 400, "invalid_query")
    check_error(pool.http.get("/api/pool/agents", params={"cursor": "%%%"}), 400, "invalid_query")
    check_error(pool.http.get("/api/pool/agents", params={"limit": "0"}), 400, "invalid_query")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("agents", {"limit": "²"}),
        ("agents", {"limit": "0005001"}),
        ("ticks", {"limit": "9" * 5000}),
        ("events", {"cursor": "²"}),
        ("agents", {"cursor": base64.urlsafe_b64encode(b"[" * 3000).decode()}),
        ("agents", {"cursor": base64.urlsafe_b64encode(b'["0001-01-01T00:00:00+23:59", "a"]').decode()}),
    ],
)
def test_no_number_and_no_cursor_is_too_strange_to_be_refused(make_pool: Callable[..., Pool], path: str, params: Any) -> None:
    check_error(make_pool().http.get(f"/api/pool/{path}", params=params), 400, "invalid_query")


def test_one_instance_is_shown_with_claim_ledger_and_history(pool: Pool) -> None:
    claimed = pool.claim(agentName="Ada", instructions="Secret plans.").json()
    answer = pool.http.get(f"/api/pool/instances/{claimed['instanceId']}")
    details = answer.json()
    assert details["agent"]["agentName"] == "Ada"
    assert details["claim"]["claimId"] == claimed["claimId"]
    assert {tool["tool"] for tool in details["resources"]["tools"]} == {"openrouter", "wallet"}
    assert [event["kind"] for event in details["events"]] == [
        "instance.claimed", "instance.taken", "instance.ready", "instance.intended",
    ]  # fmt: skip
    assert "Secret plans." not in answer.text


def test_the_registry_of_tools_is_shown(pool: Pool) -> None:
    tools = {tool["id"]: tool for tool in pool.http.get("/api/pool/tools").json()["tools"]}
    assert set(tools) == {"openrouter", "wallet", "email", "sms", "crypto"}
    assert tools["wallet"]["always"] is True


def test_anybody_may_read_numbers_and_nothing_else(pool: Pool) -> None:
    """P41."""
    name = next(iter(pool.statuses()))
    anonymous = httpx.Client(base_url="http://pool", transport=pool.http._transport)
    for path in ("/health", "/version", "/api/pool/counts", "/api/pool/info"):
        answer = anonymous.get(path)
        assert answer.status_code == 200
        assert name not in answer.text
    assert anonymous.get("/api/pool/counts").json()["counts"]["idle"] == 3
    for path in ("/api/pool/agents", "/api/pool/status", f"/api/pool/instances/{name}", "/api/pool/events", "/api/pool/settings"):
        assert anonymous.get(path).status_code == 401
