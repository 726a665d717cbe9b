"""The tick over both sides: full and honest, alone, within its budget, harmless when doubled, missed or killed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from infra.runtime.agent import Mode
from shared.pool import store
from shared.pool.context import Context
from shared.pool.lifecycle import Status
from shared.pool.services_api import ServicesApi
from tests.factories import insert_instance, query
from tests.pool_world import Pool
from tests.world import IMAGE, Deaths, InProcess, Killed, serve

PAGE = 200


def counts(pool: Pool) -> Counter[str]:
    return Counter(pool.statuses().values())


def test_a_cold_pool_warms_up_to_its_target_and_stays_there(make_pool: Callable[..., Pool]) -> None:
    """P19."""
    pool = make_pool(pool_min_idle=4)
    pool.warm_up()
    before = pool.statuses()
    for _ in range(3):
        pool.let_time_pass()
        pool.tick()
    assert pool.statuses() == before
    assert set(before.values()) == {"idle"}
    assert pool.world.inventories() == pool.world.tables()


def test_a_claimed_instance_is_replaced_but_the_cap_counts_it(make_pool: Callable[..., Pool]) -> None:
    """P13: the cap holds whatever the target, and reaching it is said aloud."""
    pool = make_pool(pool_min_idle=2, pool_max_instances=4)
    pool.warm_up()
    for _ in range(2):
        assert pool.claim().status_code == 200
    pool.warm_up()
    assert counts(pool) == {"claimed": 2, "idle": 2}
    pool.claim()
    result = pool.tick()
    assert counts(pool) == {"claimed": 3, "idle": 1}
    assert any("cap of 4" in warning for warning in result["warnings"])


def test_two_ticks_at_once_are_one(make_pool: Callable[..., Pool]) -> None:
    """P19: the second one finds the lease taken."""
    pool = make_pool(pool_min_idle=5)
    with ThreadPoolExecutor(4) as threads:
        outcomes = Counter(answer["outcome"] for answer in threads.map(lambda _: pool.tick(), range(4)))
    assert outcomes["done"] >= 1
    assert sum(outcomes.values()) == 4
    assert len(pool.statuses()) == 5


def test_replenishing_beside_a_tick_creates_nothing_twice(make_pool: Callable[..., Pool]) -> None:
    """P19."""
    pool = make_pool(pool_min_idle=5)
    with ThreadPoolExecutor(6) as threads:
        futures = [threads.submit(pool.tick)]
        futures += [threads.submit(lambda: pool.http.post("/api/pool/replenish", json={}).json()) for _ in range(5)]
        for future in futures:
            future.result()
    assert len(pool.statuses()) == 5
    pool.warm_up()
    assert len(pool.world.railway.inventory()["services"]) == 5


def test_a_tick_killed_anywhere_is_taken_up_by_the_next(make_pool: Callable[..., Pool]) -> None:
    """Killed at each of its calls to the services side in turn, the pool still converges, and never exceeds its target."""
    pool = make_pool(pool_min_idle=2, pool_create_concurrency=1)
    gateway = pool.world.gateway
    for dies_at in range(1, 8):
        seen = 0

        def dying(environ: object, start_response: object, limit: int = dies_at) -> object:
            nonlocal seen
            seen += 1
            if seen == limit:
                raise Killed
            return gateway(environ, start_response)  # type: ignore[arg-type]

        services = ServicesApi("http://services", pool.context.settings.services_api_key, transport=InProcess(dying, Deaths()))
        mortal = Context(pool.db, services, pool.context.tick, pool.context.settings)
        http = httpx.Client(base_url="http://pool", transport=InProcess(serve({"tick": mortal}), Deaths()))
        try:
            http.post("/tick", json={}, headers={"Authorization": "Bearer the-services-key"})
        except Killed:
            pool.db.run(query("UPDATE pool.leases SET expires_at = now() - interval '1 s'"))
        assert len(pool.statuses()) <= 2
        for name in list(pool.statuses())[:1]:
            pool.http.delete(f"/api/pool/instances/{name}")
        pool.let_time_pass()
    pool.warm_up()
    assert counts(pool) == {"idle": 2}
    assert pool.world.inventories() == pool.world.tables()
    outcomes = {tick["outcome"] for tick in pool.http.get("/api/pool/ticks").json()["ticks"]}
    assert outcomes == {"failed", "done"}


def test_two_thousand_instances_cost_a_call_per_page_and_no_more_statements(make_pool: Callable[..., Pool]) -> None:
    """P34, P35, P36."""
    pool = make_pool(pool_min_idle=0, pool_max_instances=5000)
    cost: dict[int, tuple[int, int]] = {}
    made = 0
    for size in (200, 2000):
        names = [f"n{number:05d}" for number in range(made, size)]
        made = size
        _have_many(pool, names)
        pool.let_time_pass(3600)
        calls, statements = len(pool.world.railway.calls), pool.db.statements
        pool.tick()
        cost[size] = (len(pool.world.railway.calls) - calls, pool.db.statements - statements)
        assert len(pool.last_tick()["seen"]["statuses"]) >= 1
    assert cost[200][0] == 1
    assert cost[2000][0] == 2000 // PAGE
    assert cost[2000][1] <= cost[200][1] + 1 <= 26


def _have_many(pool: Pool, names: list[str]) -> None:
    """Have claimed instances on both sides and at the host, without building them one by one."""
    domains = {}
    for name in names:
        service_id = pool.world.railway.add_service(f"convos-agent-test-{name}", image=IMAGE)
        domains[name] = service_id
    pool.world.run(
        "INSERT INTO services.instances (id, name, state, topology, project_id, environment_id, service_id, domain, built_at) "
        "SELECT n, 'convos-agent-test-' || n, 'created', 'shared', 'p', 'e', s, n || '.example', now() - interval '1 hour' "
        "FROM unnest(CAST(:names AS text[]), CAST(:services AS text[])) AS t (n, s);",
        names=names,
        services=list(domains.values()),
    )
    pool.db.run(
        query(
            "INSERT INTO pool.instances (id, status, claim_id, introduced, built) "
            "SELECT n, 'claimed', gen_random_uuid(), true, true FROM unnest(CAST(:names AS text[])) AS n"
        ),
        names=names,
    )


def test_what_a_tick_did_not_observe_is_observed_by_the_next(make_pool: Callable[..., Pool]) -> None:
    """P36: here each tick gets one batch answered."""
    pool = make_pool(pool_min_idle=0, pool_max_instances=5000)
    _have_many(pool, [f"n{number:05d}" for number in range(700)])
    answered = 0

    def once(environ: dict[str, str], start_response: Callable[..., object]) -> object:
        nonlocal answered
        answered += 1
        if answered == 1:
            return pool.world.gateway(environ, start_response)  # type: ignore[arg-type]
        start_response("503 Service Unavailable", [("Content-Type", "application/json")])
        return [b"{}"]

    services = ServicesApi("http://services", pool.context.settings.services_api_key, transport=InProcess(once, Deaths()))
    context = Context(pool.db, services, pool.context.tick, pool.context.settings)
    http = httpx.Client(base_url="http://pool", transport=InProcess(serve({"tick": context}), Deaths()))
    for _ in range(2):
        answered = 0
        http.post("/tick", json={}, headers={"Authorization": "Bearer the-services-key"})
    unseen = pool.db.run(query("SELECT count(*) AS n FROM pool.instances WHERE observed IS NULL"))
    assert unseen[0]["n"] == 0


def test_settling_many_claims_spends_only_its_share_of_the_tick(make_pool: Callable[..., Pool]) -> None:
    """P36: an instance that does not answer when it is asked delays neither the others nor what else the tick has to do."""
    pool = make_pool(pool_min_idle=0, tick_budget_seconds=5)
    for number in range(30):
        insert_instance(pool.db, f"i{number:02d}", Status.CLAIMING, lease=-1, generation=1)

    def slow(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        time.sleep(0.3)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"introduced": "never"}']

    services = ServicesApi("http://slow", pool.context.settings.services_api_key, transport=httpx.WSGITransport(slow))
    context = Context(pool.db, services, pool.context.tick, pool.context.settings)
    http = httpx.Client(base_url="http://pool", transport=InProcess(serve({"tick": context}), Deaths()))
    began = time.monotonic()
    result = http.post("/tick", json={}, headers={"Authorization": "Bearer the-services-key"}).json()
    assert time.monotonic() - began < 5
    assert 0 < counts(pool)["idle"] < 30
    assert any("could not be settled" in warning for warning in result["warnings"])
    assert result["outcome"] == "done"


# --- doubt destroys nothing


def test_a_wrong_services_address_changes_nothing(pool: Pool) -> None:
    """P33: an unreachable or foreign services side is no news of any instance."""
    pool.claim()
    before = pool.statuses()

    def foreign(environ: object, start_response: Callable[..., object]) -> list[bytes]:
        start_response("404 Not Found", [("Content-Type", "application/json")])
        return [b'{"error": {"code": "no_route", "message": "no"}}']

    wrong = ServicesApi("http://elsewhere", pool.context.settings.services_api_key, transport=httpx.WSGITransport(foreign))
    context = Context(pool.db, wrong, pool.context.tick, pool.context.settings)
    http = httpx.Client(base_url="http://pool", transport=InProcess(serve({"tick": context, "claim": context}), Deaths()))
    http.headers["Authorization"] = "Bearer the-services-key"
    pool.http.put("/api/pool/settings", json={"maxInstances": len(before)})
    assert http.post("/tick", json={}).json()["warnings"]
    assert pool.statuses() == before
    pool.expire_claims()
    http.post("/tick", json={})
    assert pool.statuses() == before


def test_an_empty_services_database_changes_nothing(pool: Pool) -> None:
    """`unregistered` is a wrong database, not a fact about the instances."""
    pool.claim()
    before = pool.statuses()
    pool.http.put("/api/pool/settings", json={"maxInstances": len(before)})
    pool.world.run("DELETE FROM services.hand_overs;")
    pool.world.run("DELETE FROM services.instances;")
    for _ in range(3):
        pool.let_time_pass()
        result = pool.tick()
        assert any("does not know" in warning for warning in result["warnings"])
    assert pool.statuses() == before
    assert len(pool.world.railway.inventory()["services"]) == len(before)


@pytest.mark.parametrize("cut", ["refuse", "half"])
def test_a_listing_cut_short_destroys_nothing(pool: Pool, cut: str) -> None:
    """P35."""
    before = pool.statuses()
    if cut == "refuse":
        pool.world.railway.fail("environment", "refuse", times=None)
    else:
        pool.world.railway.behaviour.cut = "half"
    for _ in range(4):
        pool.let_time_pass()
        pool.tick()
    assert pool.statuses() == before


def test_instances_that_vanished_at_the_host_are_replaced_after_two_listings(pool: Pool) -> None:
    names = list(pool.statuses())
    vanished = pool.world.run("SELECT service_id FROM services.instances WHERE id = :id;", id=names[0])[0]["service_id"]
    with pool.world.railway.lock:
        pool.world.railway.world.delete_service(vanished)
    pool.let_time_pass()
    pool.tick()
    assert pool.statuses()[names[0]] == "idle"
    pool.let_time_pass()
    pool.tick()
    assert names[0] not in pool.statuses() or pool.statuses()[names[0]] in ("dead", "destroying")
    pool.warm_up()
    assert len(pool.statuses()) == 3


def test_a_mass_loss_is_held_back_until_an_operator_confirms_it(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(pool_min_idle=5)
    pool.warm_up()
    before = pool.statuses()
    for service_id in pool.world.railway.inventory()["services"]:
        pool.world.railway.set_deploy_status(service_id, "CRASHED")
    pool.let_time_pass()
    assert pool.tick()["outcome"] == "held_back"
    assert pool.statuses() == before
    assert "5 of 5" in pool.http.get("/api/pool/status").json()["warnings"][0]
    assert pool.http.post("/api/pool/reconcile", json={"acceptLosses": True}).json()["outcome"] == "done"
    assert not set(before) & {name for name, status in pool.statuses().items() if status == "idle"}
    pool.warm_up()
    assert counts(pool) == {"idle": 5}


def test_one_missed_check_harms_nobody(pool: Pool) -> None:
    """P32."""
    domain = next(iter(pool.world.machines.domains()))
    pool.world.machines.agent(domain).mode = Mode.CRASHED
    before = pool.statuses()
    pool.let_time_pass()
    pool.tick()
    assert pool.statuses() == before


def test_an_instance_that_keeps_failing_is_replaced(make_pool: Callable[..., Pool]) -> None:
    """P32: after several checks in a row over the stuck time, and not before."""
    pool = make_pool(pool_stuck_timeout_seconds=600)
    pool.warm_up()
    domain = next(iter(pool.world.machines.domains()))
    pool.world.machines.agent(domain).mode = Mode.NOT_READY
    failing = pool.world.run("SELECT id FROM services.instances WHERE domain = :d;", d=domain)[0]["id"]
    seen = []
    for _ in range(9):
        pool.let_time_pass()
        pool.tick()
        seen.append(pool.statuses().get(failing, "gone"))
    assert seen[:2] == ["idle", "idle"]
    assert "starting" in seen
    assert seen[-1] == "gone"
    pool.warm_up()
    assert counts(pool) == {"idle": 3}


def test_a_claimed_instance_is_only_ever_marked(pool: Pool) -> None:
    """P39: it crashes, and comes back with its own conversation."""
    claimed = pool.claim().json()["instanceId"]
    row = pool.world.run("SELECT service_id FROM services.instances WHERE id = :id;", id=claimed)[0]
    pool.world.railway.set_deploy_status(row["service_id"], "CRASHED")
    pool.let_time_pass()
    pool.tick()
    assert pool.statuses()[claimed] == "crashed"
    for _ in range(3):
        pool.let_time_pass()
        pool.tick()
    assert pool.statuses()[claimed] == "crashed"


def test_a_sleeping_instance_is_woken_when_awake_ones_are_short(pool: Pool) -> None:
    """P32: sleeping is a state, not a death; it is not replaced, and a request wakes it."""
    names = list(pool.statuses())
    row = pool.world.run("SELECT service_id FROM services.instances WHERE id = :id;", id=names[0])[0]
    pool.world.railway.set_deploy_status(row["service_id"], "SLEEPING")
    pool.let_time_pass()
    pool.tick()
    assert pool.statuses()[names[0]] == "sleeping"
    for _ in range(3):
        pool.let_time_pass()
        pool.tick()
    assert sorted(pool.statuses()) == sorted(names)
    assert counts(pool) == {"idle": 3}


def test_a_stuck_destruction_is_kept_and_named(pool: Pool) -> None:
    """P25: the row stays until the host has confirmed."""
    name = next(iter(pool.statuses()))
    pool.world.railway.fail("serviceDelete", "refuse", times=None)
    answer = pool.http.delete(f"/api/pool/instances/{name}")
    assert answer.status_code == 202
    pool.let_time_pass()
    assert pool.tick()["warnings"]
    assert pool.statuses()[name] == "destroying"
    assert pool.http.get(f"/api/pool/instances/{name}").json()["agent"]["reason"]
    pool.world.heal()
    pool.let_time_pass()
    pool.tick()
    assert name not in pool.statuses()
    assert pool.http.get(f"/api/pool/operations/{answer.json()['operationId']}").json()["status"] == "done"


def test_a_tick_missed_for_an_hour_does_no_harm(pool: Pool) -> None:
    pool.claim()
    pool.let_time_pass(3600)
    pool.expire_claims()
    pool.warm_up()
    assert counts(pool) == {"claimed": 1, "idle": 3}


def test_observing_some_promotes_what_became_ready_without_creating(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(pool_min_idle=1)
    pool.tick()
    pool.let_time_pass()
    pool.world.railway.poke()
    name = next(iter(pool.statuses()))
    pool.http.put("/api/pool/settings", json={"minIdle": 5})
    answer = pool.http.post(
        "/observe", json={"instanceIds": [name, "unknown"]}, headers={"Authorization": "Bearer the-services-key"}
    )
    assert answer.json()["outcome"] == "done"
    assert pool.statuses() == {name: "idle"}


def test_ticks_tell_what_was_seen_decided_and_done(pool: Pool) -> None:
    insert_instance(pool.db, "unfit", Status.DEAD, reason="it is old")
    pool.tick()
    record = pool.last_tick()
    assert record["outcome"] == "done"
    assert record["seen"]["statuses"]
    assert record["decided"]["retired"] == 1
    assert record["done"]["destroyed"] == ["unfit"]
    assert store.take_lease(pool.db, "tick", uuid4(), seconds=1)


def test_observing_a_few_at_a_time_does_not_get_round_the_loss_limit(make_pool: Callable[..., Pool]) -> None:
    """A storm of hints, one instance each, leaves every loss to the tick, which sees how many there are."""
    pool = make_pool(pool_min_idle=6)
    pool.warm_up()
    before = pool.statuses()
    for service_id in pool.world.railway.inventory()["services"]:
        pool.world.railway.set_deploy_status(service_id, "CRASHED")
    pool.let_time_pass()
    for name in before:
        pool.http.post("/observe", json={"instanceIds": [name]}, headers={"Authorization": "Bearer the-services-key"})
    assert pool.statuses() == before
    assert pool.tick()["outcome"] == "held_back"
    assert pool.statuses() == before
