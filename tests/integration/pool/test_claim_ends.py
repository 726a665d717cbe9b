"""What becomes of a claim when an instance that it tried, or the process that worked on it, ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx

from shared.api.services import Configured
from shared.pool import store
from shared.pool.lifecycle import Status
from shared.pool.services_api import ServicesApi
from tests.factories import query, take
from tests.integration.pool.test_claim import check_error
from tests.pool_world import POOL_KEY, Pool
from tests.world import Deaths, InProcess, serve


def claim_of(pool: Pool) -> dict[str, object]:
    """Return the one claim there is."""
    rows = pool.db.run(query("SELECT id, status, instance_id, attempts, instructions FROM pool.claims"))
    assert len(rows) == 1
    return rows[0]


def set_aside(pool: Pool, claim_id: UUID, *, to: Status) -> str:
    """Have a claim try an instance in vain, and return its id."""
    taken = take(pool.db, claim_id=claim_id)
    assert taken is not None
    assert store.set_aside(pool.db, taken.id, taken.generation, to=to, reason="no", claim_id=claim_id, actor="claim")
    return taken.id


def test_killing_an_instance_that_was_set_aside_leaves_the_claim_alone_that_went_on(pool: Pool) -> None:
    claim_id = uuid4()
    former = set_aside(pool, claim_id, to=Status.TAINTED)
    taken = take(pool.db, claim_id=claim_id)
    assert taken is not None
    introduced = {"conversation_id": "c1", "invite_url": None, "joined": True, "status": "joined"}
    assert store.complete_claim(pool.db, taken.id, taken.generation, Configured.model_validate(introduced), actor="claim")
    shown = pool.http.get(f"/api/pool/instances/{former}").json()["agent"]
    assert (shown["conversationId"], shown["agentName"]) == (None, None)
    assert pool.http.delete(f"/api/pool/instances/{former}").status_code == 200
    assert (claim_of(pool)["status"], claim_of(pool)["instance_id"]) == ("claimed", taken.id)


def test_a_claim_whose_instance_was_killed_tries_no_other(pool: Pool) -> None:
    """P8: an ended claim must not hold an instance, and the caller sees a failure."""
    killed: list[str] = []

    def kills_first(environ: dict[str, str], start_response: Any) -> Any:
        _, verb, instance_id = environ["PATH_INFO"].split("/")
        if verb == "configure":
            killed.append(instance_id)
            assert pool.http.delete(f"/api/pool/instances/{instance_id}").status_code == 200
        return pool.world.gateway(environ, start_response)

    services = ServicesApi("http://services", pool.context.settings.services_api_key, transport=InProcess(kills_first, Deaths()))
    context = replace(pool.context, services=services)
    http = httpx.Client(base_url="http://pool", transport=InProcess(serve({"claim": context}), Deaths()))
    answer = http.post("/api/pool/claim", json={}, headers={"Authorization": f"Bearer {POOL_KEY}"})
    details = check_error(answer, 502, "provision_failed")["details"]
    assert isinstance(details, dict)
    assert (details["tried"], claim_of(pool)["status"], claim_of(pool)["instance_id"]) == (1, "ended", killed[0])
    assert set(pool.statuses().values()) == {"idle"}


def test_a_claim_that_was_ended_takes_nothing_more(pool: Pool) -> None:
    claim_id = uuid4()
    former = set_aside(pool, claim_id, to=Status.TAINTED)
    pool.http.delete(f"/api/pool/instances/{former}")
    assert claim_of(pool)["status"] == "ended"
    assert take(pool.db, claim_id=claim_id) is None


def test_a_claim_whose_process_died_between_two_attempts_is_closed_and_forgets_its_instructions(pool: Pool) -> None:
    """P2: nothing stays open for ever, and nothing is closed that somebody may still be working on."""
    set_aside(pool, uuid4(), to=Status.IDLE)
    pool.tick()
    assert claim_of(pool)["status"] == "open"
    pool.db.run(query("UPDATE pool.claims SET created_at = :then"), then=datetime.now(UTC) - timedelta(minutes=10))
    pool.tick()
    assert (claim_of(pool)["status"], claim_of(pool)["instructions"]) == ("failed", None)
    assert pool.last_tick()["done"]["claimsClosed"] == 1


def test_an_old_claim_that_still_holds_its_instance_stays_open(pool: Pool) -> None:
    """What became of it is not known yet, so its lease decides."""
    assert take(pool.db) is not None
    pool.db.run(query("UPDATE pool.claims SET created_at = :then"), then=datetime.now(UTC) - timedelta(hours=1))
    pool.tick()
    assert claim_of(pool)["status"] == "open"
