"""Every function as it is deployed: alone, under functions-framework; and the pool's claims from several processes at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from werkzeug.serving import make_server

from infra import routes
from infra.local.processes import free_ports
from tests import pool_world, world
from tests.factories import query
from tests.integration.services.test_killed_processes import Quiet
from tests.pool_world import POOL_KEY, Pool
from tests.world import SERVICES_KEY

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = routes.load().functions


@dataclass
class Served:
    """One function in a process of its own."""

    name: str
    process: subprocess.Popen[bytes]
    client: httpx.Client

    def wait(self) -> None:
        for _ in range(400):
            with contextlib.suppress(httpx.TransportError):
                self.client.get("/nothing")
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.name} did not start")


@pytest.fixture
def pool(database_url: str) -> Iterator[Pool]:
    made = pool_world.build(database_url, pool_min_idle=50, pool_create_concurrency=50, pool_max_instances=200)
    yield made
    made.close()


@pytest.fixture
def serve(pool: Pool) -> Iterator[Callable[[str], Served]]:
    """Start functions with the framework's own command; the services side they call is this process."""
    server = make_server("127.0.0.1", 0, pool.world.gateway, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = {
        **pool.world.settings,
        "POOL_DATABASE_URL": pool.world.settings["SERVICES_DATABASE_URL"],
        "POOL_API_KEY": POOL_KEY,
        "SERVICES_URL": f"http://127.0.0.1:{server.port}",
        "POOL_MIN_IDLE": "50",
        "POOL_MAX_INSTANCES": "200",
        "POOL_CREATE_CONCURRENCY": "50",
    }
    started: list[Served] = []

    def start(name: str) -> Served:
        port = free_ports(1)[0]
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "functions_framework",
                "--target",
                name,
                "--source",
                f"functions/{name}/main.py",
                "--port",
                str(port),
            ],
            cwd=ROOT,
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **settings},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        headers = {"Authorization": f"Bearer {POOL_KEY if name in ('claim', 'pool') else SERVICES_KEY}"}
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60, trust_env=False)
        started.append(Served(name, process, client))
        return started[-1]

    yield start
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait(10)
        one.client.close()
    server.shutdown()
    server.server_close()


def test_every_function_starts_alone_and_answers_in_its_own_words(serve: Callable[[str], Served]) -> None:
    served = [serve(function.name) for function in FUNCTIONS]
    for one, function in zip(served, FUNCTIONS, strict=True):
        one.wait()
        client = one.client
        unknown = client.get("/nothing/of/the/kind")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "no_route")
        method, path = function.routes[0].split(" ", 1)
        refused = client.request(method, path.replace("{", "").replace("}", ""), headers={"Authorization": "Bearer wrong"})
        assert refused.status_code in (200, 401)
        assert refused.json()
        inventory = client.get(f"/inventory/{function.name.removeprefix('provision_')}", params={"probe": "true"})
        assert inventory.status_code == (200 if function.name.startswith("provision_") else 404)


def test_claims_from_several_processes_share_no_instance_while_everything_else_goes_on(
    serve: Callable[[str], Served], pool: Pool
) -> None:
    """P1, P5, P28: 200 claims over three processes, beside ticks, kills and drains of others."""
    claims = [serve("claim") for _ in range(3)]
    tick, operate = serve("tick"), serve("pool")
    for one in (*claims, tick, operate):
        one.wait()
    pool.warm_up(ticks=12)
    before = set(pool.statuses())
    doors = [one.client for one in claims]
    ticking, operating = tick.client, operate.client
    with ThreadPoolExecutor(28) as threads:
        asked = [
            threads.submit(doors[number % 3].post, "/api/pool/claim", json={"agentName": f"A{number}"}) for number in range(200)
        ]
        drains = [threads.submit(operating.post, "/api/pool/drain", json={"count": 4, "pause": True})]
        kills = [threads.submit(operating.delete, f"/api/pool/instances/{name}") for name in sorted(before)[:3]]
        ticks = [threads.submit(ticking.post, "/tick", json={}) for _ in range(2)]
        answers = [future.result() for future in asked]
        taken_away = {name for future in (*drains, *kills) for name in future.result().json()["instanceIds"]}
        for future in ticks:
            assert future.result().status_code == 200
    by_status = Counter(answer.status_code for answer in answers)
    assert set(by_status) <= {200, 502, 503}
    won = [answer.json()["instanceId"] for answer in answers if answer.status_code == 200]
    assert len(won) == len(set(won))
    assert set(won) <= before
    # Whatever nobody took away went to exactly one caller.
    assert before - taken_away <= set(won)
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.json()["error"]["code"] for answer in refused} == {"no_idle_instances"}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    told = [heard for domain in pool.world.machines.ever() for heard in domain.heard]
    assert max(Counter(id(agent) for agent in pool.world.machines.ever() for _ in agent.heard).values()) == 1
    assert len(told) >= len(won)
    statuses = pool.statuses()
    assert all(statuses[name] == "claimed" for name in set(won) - taken_away)


def test_a_claim_process_killed_while_it_introduces_is_settled_by_the_tick(serve: Callable[[str], Served], pool: Pool) -> None:
    """P2: SIGKILL after the instance was told; the claim is completed without it."""
    pool.http.put("/api/pool/settings", json={"minIdle": 2})
    pool.warm_up()
    served = serve("claim")
    served.wait()
    for domain in pool.world.machines.domains():
        agent = pool.world.machines.agent(domain)
        agent.fail("provision", "hook", after=lambda: os.killpg(served.process.pid, signal.SIGKILL))
    with pytest.raises(httpx.TransportError):
        served.client.post("/api/pool/claim", json={"instructions": "Only mine."})
    claim = pool.db.run(query("SELECT id, status FROM pool.claims"))[0]
    assert claim["status"] == "open"
    pool.expire_claims()
    pool.tick()
    record = pool.http.get(f"/api/pool/claims/{claim['id']}").json()
    assert record["status"] == "claimed"
    assert pool.statuses()[record["instanceId"]] == "claimed"


def test_a_database_that_goes_away_is_a_503_and_comes_back(serve: Callable[[str], Served], pool: Pool) -> None:
    """P48."""
    served = serve("pool")
    served.wait()
    client = served.client
    assert client.get("/health").status_code == 200
    pool.db.run(
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    )
    assert client.get("/health").status_code == 200
    assert client.get("/api/pool/counts").status_code == 200
    assert client.get("/api/pool/info").json()["environment"] == world.ENVIRONMENT
