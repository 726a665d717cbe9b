"""A claim through both sides, to the runtime and back; and what becomes of one that does not end well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest

from infra.runtime.agent import Agent, Mode
from tests.factories import query, take
from tests.pool_world import Pool
from tests.world import Killed


def agent_of(pool: Pool, instance_id: str) -> Agent:
    """Return the simulated agent that runs in an instance."""
    row = pool.world.run("SELECT domain FROM services.instances WHERE id = :id;", id=instance_id)[0]
    return pool.world.machines.agent(row["domain"])


def every_agent(pool: Pool) -> list[Agent]:
    return [pool.world.machines.agent(domain) for domain in pool.world.machines.domains()]


def check_error(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    error: dict[str, object] = answer.json()["error"]
    assert error["code"] == code
    return error


def test_a_claim_hands_over_a_live_agent(pool: Pool) -> None:
    answer = pool.claim(agentName="Ada", instructions="Be brief.", joinUrl="https://dev.convos.org/v2?i=abc", ownerId="o1")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {
        "claimId", "instanceId", "status", "conversationId", "inviteUrl", "joined", "agentName", "gatewayUrl", "templateId",
    }  # fmt: skip
    assert (body["status"], body["joined"], body["agentName"], body["templateId"]) == ("claimed", True, "Ada", None)
    assert body["conversationId"]
    assert body["gatewayUrl"].startswith("https://")
    told = agent_of(pool, body["instanceId"]).heard
    assert [(one.agent_name, one.instructions) for one in told] == [("Ada", "Be brief.")]
    record = pool.http.get(f"/api/pool/claims/{body['claimId']}").json()
    assert (record["status"], record["instanceId"], record["attempts"]) == ("claimed", body["instanceId"], 1)


def test_a_claim_without_anything_has_the_defaults(pool: Pool) -> None:
    body = pool.http.post("/api/pool/claim").json()
    assert (body["agentName"], body["joined"]) == ("Assistant", False)
    assert body["inviteUrl"]
    told = agent_of(pool, body["instanceId"]).heard
    assert told[0].instructions == "You are a helpful AI assistant."


def test_a_claim_calls_no_provider(pool: Pool) -> None:
    """P9."""
    before = pool.world.calls()
    assert pool.claim().status_code == 200
    assert pool.world.calls() == before


def test_a_claim_costs_two_statements_on_each_side(pool: Pool) -> None:
    pool.claim()
    ours, theirs = pool.db.round_trips, pool.world.db.round_trips
    assert pool.claim().status_code == 200
    assert pool.db.round_trips - ours == 2
    assert pool.world.db.round_trips - theirs == 2


def test_an_empty_pool_says_when_to_come_back(pool: Pool) -> None:
    for _ in range(3):
        assert pool.claim().status_code == 200
    answer = pool.claim()
    error = check_error(answer, 503, "no_idle_instances")
    assert int(answer.headers["Retry-After"]) >= 1
    assert error["details"] == {"estimatedReadySeconds": int(answer.headers["Retry-After"])}


def test_an_empty_pool_that_is_paused_says_so(pool: Pool) -> None:
    pool.http.post("/api/pool/drain", json={"all": True, "pause": True})
    answer = pool.claim()
    error = check_error(answer, 503, "no_idle_instances")
    assert "paused" in str(error["message"])
    assert (error["details"], answer.headers["Retry-After"]) == ({"estimatedReadySeconds": None}, "60")


def test_two_hundred_claims_on_fifty_get_fifty(make_pool: Callable[..., Pool]) -> None:
    """P1, P5: no instance twice, everybody else a typed refusal."""
    pool = make_pool(pool_min_idle=50, pool_create_concurrency=50)
    pool.warm_up(ticks=12)
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda number: pool.claim(instructions=f"Caller {number}."), range(200)))
    assert Counter(answer.status_code for answer in answers) == {200: 50, 503: 150}
    instances = [answer.json()["instanceId"] for answer in answers if answer.status_code == 200]
    assert len(set(instances)) == 50
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 503)
    assert max(len(agent.heard) for agent in every_agent(pool)) == 1


def test_what_belongs_to_the_next_stage_says_so(pool: Pool) -> None:
    keyed = pool.http.post("/api/pool/claim", json={}, headers={"Idempotency-Key": "k"})
    check_error(keyed, 501, "not_yet")
    check_error(pool.claim(waitSeconds=3), 501, "not_yet")
    assert pool.claim(waitSeconds=0).status_code == 200
    body = {"instanceId": "abc", "gatewayToken": "t"}
    for path in ("self-destruct", "pending-acceptance/complete", "pending-acceptance/fail"):
        check_error(pool.http.post(f"/api/pool/{path}", json=body), 501, "not_yet")


def test_an_unknown_template_or_claim_is_404(pool: Pool) -> None:
    check_error(pool.claim(templateId="t1"), 404, "template_not_found")
    check_error(pool.http.get(f"/api/pool/claims/{UUID(int=1)}"), 404, "not_found")
    check_error(pool.http.get("/api/pool/claims/nonsense"), 404, "not_found")


def test_a_join_that_waits_for_approval_is_no_success(pool: Pool) -> None:
    """P7."""
    body = pool.claim(joinUrl="https://dev.convos.org/v2?i=pending").json()
    assert body["status"] == "pending_acceptance"
    assert pool.statuses()[body["instanceId"]] == "pending_acceptance"


# --- failures


def test_a_failed_instance_is_set_aside_and_the_next_one_is_tried(pool: Pool) -> None:
    """P3: the failed one is quarantined, never handed out again, and replaced."""
    for agent in every_agent(pool)[:2]:
        agent.fail("provision", "fail_after", status=500)
    answer = pool.claim(instructions="For one caller only.")
    assert answer.status_code == 200
    tainted = [name for name, status in pool.statuses().items() if status == "tainted"]
    assert answer.json()["instanceId"] not in tainted
    assert pool.http.get(f"/api/pool/claims/{answer.json()['claimId']}").json()["attempts"] == len(tainted) + 1
    pool.warm_up()
    assert not set(tainted) & set(pool.statuses())


def test_when_all_that_are_tried_fail_the_caller_gets_the_claims_id(pool: Pool) -> None:
    for agent in every_agent(pool):
        agent.mode = Mode.CRASHED
    error = check_error(pool.claim(instructions="A secret."), 502, "provision_failed")
    details = error["details"]
    assert isinstance(details, dict)
    record = pool.http.get(f"/api/pool/claims/{details['claimId']}").json()
    assert (record["status"], details["tried"]) == ("failed", 3)
    kept = pool.db.run(query("SELECT instructions FROM pool.claims"))
    assert [row["instructions"] for row in kept] == [None]


def test_a_lost_answer_that_did_happen_is_still_a_success(pool: Pool) -> None:
    """P4, P6: the settling finds the conversation, so that nobody is told of a failure that was none."""
    for agent in every_agent(pool):
        agent.fail("provision", "lose")
    answer = pool.claim(instructions="Once.")
    assert answer.status_code == 200, answer.text
    assert answer.json()["conversationId"]
    assert sorted(len(agent.heard) for agent in every_agent(pool)) == [0, 0, 1]


def test_an_outage_of_the_services_side_costs_no_instance(pool: Pool) -> None:
    """P33: what cannot be settled stays as it is, only one instance is held up, and it returns."""
    pool.world.services.db.close()
    pool.world.run("ALTER TABLE services.hand_overs RENAME TO away;")
    answer = pool.claim()
    error = check_error(answer, 502, "provision_failed")
    assert sorted(pool.statuses().values()) == ["claiming", "idle", "idle"]
    details = error["details"]
    assert isinstance(details, dict)
    assert pool.http.get(f"/api/pool/claims/{details['claimId']}").json()["status"] == "open"
    pool.world.run("ALTER TABLE services.away RENAME TO hand_overs;")
    pool.expire_claims()
    pool.tick()
    assert sorted(pool.statuses().values()) == ["idle", "idle", "idle"]


def die() -> None:
    raise Killed


def test_a_process_killed_while_introducing_leaves_a_lease_that_is_settled(pool: Pool) -> None:
    """P2, P4: it may have been introduced, so it is quarantined and replaced, and not before its lease has run out."""
    for agent in every_agent(pool):
        agent.fail("provision", "hook", before=die)
    with pytest.raises(Killed):
        pool.claim()
    held = next(name for name, status in pool.statuses().items() if status == "claiming")
    pool.tick()
    assert pool.statuses()[held] == "claiming"
    pool.expire_claims()
    pool.tick()
    assert held not in pool.statuses()
    pool.warm_up()
    record = pool.db.run(query("SELECT status, problem FROM pool.claims"))[0]
    assert (record["status"], "maybe" in record["problem"]) == ("failed", True)
    events = [event["kind"] for event in pool.http.get("/api/pool/events", params={"instanceId": held}).json()["events"]]
    assert events[:3] == ["instance.destroyed", "instance.destroying", "instance.tainted"]


def test_a_process_killed_before_it_reached_the_other_side_costs_nothing(pool: Pool) -> None:
    """P2: never sent means idle again."""
    taken = take(pool.db)
    assert taken is not None
    pool.expire_claims()
    pool.tick()
    assert pool.statuses()[taken.id] == "idle"
    assert pool.claim().status_code == 200


def test_a_process_killed_after_the_introduction_is_completed_by_the_tick(pool: Pool) -> None:
    """P2, P6: bound means completed."""
    for agent in every_agent(pool):
        agent.fail("provision", "hook", after=die)
    with pytest.raises(Killed):
        pool.claim(instructions="Mine.")
    pool.expire_claims()
    pool.tick()
    claimed = [name for name, status in pool.statuses().items() if status == "claimed"]
    assert len(claimed) == 1
    assert [one.instructions for one in agent_of(pool, claimed[0]).heard] == ["Mine."]


def test_an_introduction_that_could_not_be_settled_is_completed_later_and_belongs_to_its_claim(pool: Pool) -> None:
    """P2: an instance is never somebody's without a claim that says whose."""
    for agent in every_agent(pool):
        agent.fail("provision", "hook", after=lambda: pool.world.run("ALTER TABLE services.instances RENAME TO away;"))
    answer = pool.claim(agentName="Ada")
    claim_id = check_error(answer, 502, "provision_failed")["details"]["claimId"]  # type: ignore[index]
    pool.world.run("ALTER TABLE services.away RENAME TO instances;")
    pool.expire_claims()
    pool.tick()
    record = pool.http.get(f"/api/pool/claims/{claim_id}").json()
    assert record["status"] == "claimed"
    assert pool.statuses()[record["instanceId"]] == "claimed"
    assert [one.agent_name for one in agent_of(pool, record["instanceId"]).heard] == ["Ada"]


def test_a_kill_during_a_claim_is_not_overwritten(pool: Pool) -> None:
    """P8: the caller does not get an instance that is being destroyed."""
    killed: list[str] = []

    def kill() -> None:
        name = next(name for name, status in pool.statuses().items() if status == "claiming")
        killed.append(name)
        assert pool.http.delete(f"/api/pool/instances/{name}").status_code in (200, 202)

    first = every_agent(pool)
    for agent in first:
        agent.fail("provision", "hook", after=kill)
    answer = pool.claim()
    assert answer.status_code == 502, answer.text
    assert pool.statuses().get(killed[0], "gone") in ("destroying", "gone")


def test_a_protected_instance_is_left_alone_by_claim_kill_and_drain(pool: Pool) -> None:
    """P11."""
    names = list(pool.statuses())
    for name in names:
        assert pool.http.post(f"/api/pool/instances/{name}/protect").status_code == 200
    check_error(pool.claim(), 503, "no_idle_instances")
    check_error(pool.http.delete(f"/api/pool/instances/{names[0]}"), 409, "protected")
    assert pool.http.post("/api/pool/drain", json={"all": True, "pause": True}).json()["total"] == 0
    pool.http.post(f"/api/pool/instances/{names[0]}/unprotect")
    assert pool.claim().json()["instanceId"] == names[0]
