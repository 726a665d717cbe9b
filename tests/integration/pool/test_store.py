"""Every move in the database, raced and repeated against real Postgres."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from shared.api.services import Configured, HandOver, ServiceStatus
from shared.db import Database
from shared.errors import AppError
from shared.pool import store
from shared.pool.lifecycle import Status
from shared.pool.plan import Move, changed_row
from shared.pool.settings import PoolSettings
from tests.factories import insert_instance, query, seen, statuses, take

S = Status
ANSWER = Configured(conversation_id="c1", invite_url="https://invite.example/1", joined=True, status=HandOver.JOINED)


@pytest.fixture
def settings(database_url: str) -> PoolSettings:
    return PoolSettings.model_validate(
        {
            "pool_database_url": database_url,
            "pool_api_key": "p" * 20,
            "services_api_key": "s" * 20,
            "services_url": "http://services.example",
        }
    )


# --- taking


def test_two_hundred_takers_of_fifty_get_each_instance_once(database_url: str) -> None:
    """P1, P5: one statement hands out each row once, over several connections."""
    db = Database(database_url, max_connections=8)
    for number in range(50):
        insert_instance(db, f"i{number}")
    with ThreadPoolExecutor(16) as pool:
        taken = [one for one in pool.map(lambda _: take(db), range(200)) if one is not None]
    db.close()
    assert Counter(one.id for one in taken) == Counter(f"i{number}" for number in range(50))


def test_the_current_image_goes_first_then_the_oldest(database: Database) -> None:
    """P10."""
    insert_instance(database, "old", age=300)
    insert_instance(database, "older", age=400)
    insert_instance(database, "current", age=100, current_image=True)
    insert_instance(database, "newest", age=1, current_image=True)
    order = [taken.id for taken in (take(database) for _ in range(4)) if taken is not None]
    assert order == ["current", "newest", "older", "old"]


def test_a_protected_instance_is_never_taken(database: Database) -> None:
    """P11."""
    insert_instance(database, "mine", protected=True)
    assert take(database) is None


def test_only_idle_ones_are_taken(database: Database) -> None:
    for status in Status:
        if status is not S.IDLE:
            insert_instance(database, str(status).replace("_", "-"), status)
    assert take(database) is None


def test_each_taking_has_a_higher_generation_and_a_lease_that_outlives_the_send(database: Database) -> None:
    insert_instance(database, "a", generation=7)
    taken = take(database)
    assert taken is not None
    assert taken.generation == 8
    row = database.run(query("SELECT lease_expires_at, not_after, now() AS now FROM pool.instances"))[0]
    assert row["now"] < row["not_after"] < row["lease_expires_at"]


def test_a_second_attempt_keeps_the_claims_row(database: Database) -> None:
    insert_instance(database, "a", age=9)
    insert_instance(database, "b")
    claim_id = uuid4()
    first = take(database, claim_id=claim_id)
    assert first is not None
    store.set_aside(database, "a", first.generation, to=S.TAINTED, reason="it failed", claim_id=claim_id, actor="claim")
    second = take(database, claim_id=claim_id, excluded=("a",))
    assert second is not None
    assert second.id == "b"
    row = store.read_claim(database, claim_id)
    assert row is not None
    assert (row["attempts"], row["instance_id"], row["status"]) == (2, "b", "open")


# --- completing


def test_completion_is_refused_once_the_row_has_moved_on(database: Database) -> None:
    """P8: a kill between taking and completing is not overwritten."""
    insert_instance(database, "a")
    claim_id = uuid4()
    taken = take(database, claim_id=claim_id)
    assert taken is not None
    assert store.begin_kill(database, "a", uuid4(), reason="killed", only_status=None)
    assert not store.complete_claim(database, "a", taken.generation, ANSWER, actor="claim")
    assert statuses(database) == {"a": "destroying"}
    row = store.read_claim(database, claim_id)
    assert row is not None
    assert row["status"] == "ended"


def test_completion_under_an_old_generation_is_refused(database: Database) -> None:
    insert_instance(database, "a")
    taken = take(database)
    assert taken is not None
    assert not store.complete_claim(database, "a", taken.generation - 1, ANSWER, actor="claim")
    assert store.complete_claim(database, "a", taken.generation, ANSWER, actor="claim")
    assert not store.complete_claim(database, "a", taken.generation, ANSWER, actor="claim")
    assert statuses(database) == {"a": "claimed"}


def test_an_instance_somebody_spoke_to_cannot_be_made_idle_even_by_hand(database: Database) -> None:
    """P3: the schema itself refuses it."""
    insert_instance(database, "a", S.TAINTED)
    with pytest.raises(AppError):
        database.run(query("UPDATE pool.instances SET status = 'idle'"))


def test_a_pending_acceptance_is_a_state_of_its_own(database: Database) -> None:
    """P7."""
    insert_instance(database, "a")
    taken = take(database)
    assert taken is not None
    pending = Configured(conversation_id=None, invite_url=None, joined=False, status=HandOver.PENDING_ACCEPTANCE)
    assert store.complete_claim(database, "a", taken.generation, pending, actor="claim")
    assert statuses(database) == {"a": "pending_acceptance"}


# --- observing


def observe(db: Database, instance_id: str, to: Status, status: ServiceStatus) -> dict[str, Status]:
    instance = store.list_to_observe(db, [instance_id])[0]
    return store.apply_observations(db, [changed_row(Move(instance, seen(status), to, "why"), None)], actor="tick")


def test_a_move_applies_only_to_the_row_that_was_read(database: Database) -> None:
    """P1: a claim made between reading and writing is not undone."""
    insert_instance(database, "a")
    instance = store.list_to_observe(database, None)[0]
    taken = take(database)
    row = changed_row(Move(instance, seen(ServiceStatus.GONE), S.DEAD, "gone"), None)
    assert store.apply_observations(database, [row], actor="tick") == {}
    assert taken is not None
    assert store.complete_claim(database, "a", taken.generation, ANSWER, actor="claim")


def test_a_move_that_was_read_after_the_claim_still_leaves_claiming_alone(database: Database) -> None:
    insert_instance(database, "a")
    take(database)
    assert observe(database, "a", S.DEAD, ServiceStatus.GONE) == {}
    assert statuses(database) == {"a": "claiming"}


def test_becoming_ready_is_an_event_that_measures_the_start(database: Database) -> None:
    insert_instance(database, "a", S.STARTING, age=40)
    database.run(query("UPDATE pool.instances SET status_since = now() - interval '40 s'"))
    assert observe(database, "a", S.IDLE, ServiceStatus.HEALTHY) == {"a": S.IDLE}
    event = store.list_events(database, most=1)[0]
    assert event["kind"] == "instance.ready"
    assert 39 < event["details"]["seconds"] < 60
    insert_instance(database, "b", S.STARTING, age=10)
    assert 25 < (store.look_at_supply(database, excluded=[]).estimated_seconds or 0) < 35


# --- creating


def test_two_who_replenish_at_once_create_only_what_is_missing(database_url: str, settings: PoolSettings) -> None:
    """P19: the deficit is counted under a lock in the database, not in the process."""
    databases = [Database(database_url) for _ in range(6)]

    def replenish(number: int) -> list[str]:
        with databases[number].transaction() as tx:
            limits = store.lock_limits(tx, settings)
            return store.begin_creations(tx, limits, [f"n{number}-{k}" for k in range(10)], actor="tick")

    with ThreadPoolExecutor(6) as pool:
        created = [name for names in pool.map(replenish, range(6)) for name in names]
    for database in databases:
        database.close()
    assert len(created) == settings.pool_min_idle


def test_the_cap_counts_every_instance_whose_end_is_not_confirmed(database: Database, settings: PoolSettings) -> None:
    """P13: the cap on spending is apart from the target."""
    capped = settings.model_copy(update={"pool_max_instances": 6})
    for number, status in enumerate((S.CLAIMED, S.TAINTED, S.DESTROYING, S.CRASHED)):
        insert_instance(database, f"i{number}", status)
    with database.transaction() as tx:
        limits = store.lock_limits(tx, capped)
        assert len(store.begin_creations(tx, limits, [f"n{k}" for k in range(10)], actor="tick")) == 2


def test_only_so_many_are_built_at_a_time(database: Database, settings: PoolSettings) -> None:
    narrow = settings.model_copy(update={"pool_create_concurrency": 2, "pool_min_idle": 10})
    insert_instance(database, "building", S.STARTING, built=False)
    with database.transaction() as tx:
        limits = store.lock_limits(tx, narrow)
        assert len(store.begin_creations(tx, limits, [f"n{k}" for k in range(10)], actor="tick")) == 1


def test_a_lowered_target_retires_the_oldest_and_a_returned_one_is_kept(database: Database, settings: PoolSettings) -> None:
    for number in range(5):
        insert_instance(database, f"i{number}", age=100 - number)
    three = settings.model_copy(update={"pool_min_idle": 3})
    assert store.retire_surplus(database, three.model_copy(update={"pool_min_idle": 5}), actor="tick") == 0
    assert store.retire_surplus(database, three, actor="tick") == 2
    assert {name for name, status in statuses(database).items() if status == "destroying"} == {"i0", "i1"}
    insert_instance(database, "returned", age=500)
    assert store.retire_surplus(database, three, actor="tick") == 0


def test_the_first_tick_on_a_pool_that_is_there_already_retires_nothing(database: Database, settings: PoolSettings) -> None:
    for number in range(5):
        insert_instance(database, f"i{number}")
    assert store.retire_surplus(database, settings.model_copy(update={"pool_min_idle": 2}), actor="tick") == 0
    assert set(statuses(database).values()) == {"idle"}


def test_observations_wait_for_no_row_that_somebody_is_changing(database: Database) -> None:
    """P1: it will have changed, so the observation has lost the race; and statements that do not wait cannot lock each other."""
    for name in ("a", "b"):
        insert_instance(database, name)
    moves = [Move(one, seen(ServiceStatus.GONE), S.DEAD, "gone") for one in store.list_to_observe(database, None)]
    with database.transaction() as other:
        store.set_protected(other, "a", protected=True)
        written = store.apply_observations(database, [changed_row(move, None) for move in moves], actor="tick")
        assert store.retire_unusable(database, actor="tick") == 1
    assert written == {"b": S.DEAD}
    assert statuses(database) == {"a": "idle", "b": "destroying"}


# --- destroying


def test_a_drain_takes_only_what_is_unclaimed_at_that_moment(database: Database) -> None:
    """P28, P11."""
    for status in (S.IDLE, S.STARTING, S.SLEEPING, S.TAINTED, S.DEAD, S.CLAIMED, S.CLAIMING, S.PENDING_ACCEPTANCE, S.CRASHED):
        insert_instance(database, str(status).replace("_", "-"), status)
    insert_instance(database, "protected", protected=True)
    assert set(store.begin_drain(database, uuid4(), most=100)) == {"idle", "starting", "sleeping", "tainted", "dead"}
    assert statuses(database)["protected"] == "idle"


def test_claims_and_drains_at_once_never_share_an_instance(database_url: str) -> None:
    """P28."""
    db = Database(database_url, max_connections=8)
    for number in range(60):
        insert_instance(db, f"i{number}")
    with ThreadPoolExecutor(8) as pool:
        drains = [pool.submit(store.begin_drain, db, uuid4(), most=10) for _ in range(4)]
        claims = [pool.submit(take, db) for _ in range(60)]
        drained = [name for future in drains for name in future.result()]
        claimed = [one.id for one in (future.result() for future in claims) if one is not None]
    db.close()
    assert not set(drained) & set(claimed)
    assert len(drained) + len(claimed) == len(set(drained)) + len(set(claimed))


def test_a_kill_happens_once(database_url: str) -> None:
    """P30."""
    db = Database(database_url, max_connections=8)
    insert_instance(db, "a", S.CLAIMED)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(store.begin_kill, db, "a", uuid4(), reason="killed", only_status=None) for _ in range(8)]
        won = [future.result() for future in futures]
    db.close()
    assert won.count(True) == 1


def test_a_row_goes_only_while_it_is_being_destroyed(database: Database) -> None:
    """P25."""
    insert_instance(database, "a", S.CLAIMED)
    assert not store.forget_destroyed(database, "a", actor="tick")
    store.begin_kill(database, "a", uuid4(), reason="killed", only_status=None)
    assert store.forget_destroyed(database, "a", actor="tick")
    assert statuses(database) == {}


# --- leases


def test_a_lease_is_one_holders_until_it_runs_out(database: Database) -> None:
    first, second = uuid4(), uuid4()
    assert store.take_lease(database, "tick", first, seconds=60)
    assert not store.take_lease(database, "tick", second, seconds=60)
    database.run(query("UPDATE pool.leases SET expires_at = now() - interval '1 s'"))
    assert store.take_lease(database, "tick", second, seconds=60)


def test_a_tick_that_was_cut_off_is_closed_by_the_next(database: Database) -> None:
    first = store.begin_tick(database)
    second = store.begin_tick(database)
    outcomes = {row["id"]: row["outcome"] for row in store.list_ticks(database, most=5)}
    assert outcomes == {first: "failed", second: "running"}


def test_settings_are_changed_only_from_the_version_that_was_read(database: Database, settings: PoolSettings) -> None:
    version = store.read_limits(database, settings).version
    assert store.put_settings(database, {"min_idle": 7}, version=version)
    assert not store.put_settings(database, {"min_idle": 8}, version=version)
    assert store.read_limits(database, settings).min_idle == 7
    assert store.put_settings(database, {"min_idle": None}, version=None)
    assert store.read_limits(database, settings).min_idle == settings.pool_min_idle


def test_old_records_are_forgotten_in_small_batches(database: Database) -> None:
    database.run(
        query(
            "INSERT INTO pool.events (kind, actor, at) "
            "SELECT 'a.b', 'x', now() - interval '200 days' FROM generate_series(1, 600)"
        )
    )
    database.run(query("INSERT INTO pool.events (kind, actor) VALUES ('a.fresh', 'x')"))
    store.forget_old(database)
    assert len(store.list_events(database, most=500)) == 101
    store.forget_old(database)
    kinds = [row["kind"] for row in store.list_events(database, most=500)]
    assert kinds == ["a.fresh"]
    assert datetime.now(UTC) > store.list_events(database, most=1)[0]["at"]


def test_another_client_running_the_same_statement_shares_no_instance_with_us(
    database: Database, database_url: str, require_tool: Callable[[str], str], tmp_path: Path
) -> None:
    """P1: the guarantee is the statement's, whoever sends it; here PostgreSQL's own load generator beside our connections."""
    pgbench = require_tool("pgbench")
    for number in range(120):
        insert_instance(database, f"i{number}")
    values = {
        "claim_id": "gen_random_uuid()",
        "send_seconds": "60",
        "lease_seconds": "120",
        "excluded": "'{}'",
        "agent_name": "'pgbench'",
    }
    script = tmp_path / "take.sql"
    statement = store.QUERIES["take_idle"]
    text = statement.sql
    for number, name in sorted(enumerate(statement.parameters, 1), reverse=True):
        text = text.replace(f"${number}", values.get(name, "NULL"))
    # One id for both places that name it.
    script.write_text("SELECT gen_random_uuid() AS id \\gset\n" + text.replace("gen_random_uuid()", "':id'") + ";\n")
    command = [pgbench, "--no-vacuum", "--file", str(script), "--client", "4", "--transactions", "20", database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        ours = [one.id for one in (take(database) for _ in range(60)) if one is not None]
        output, _ = running.communicate(timeout=60)
    assert running.returncode == 0, output
    rows = database.run(query("SELECT instance_id, count(*) AS n FROM pool.claims GROUP BY instance_id"))
    assert {row["n"] for row in rows} == {1}
    assert len(rows) == 120
    theirs = database.run(query("SELECT instance_id FROM pool.claims WHERE agent_name = 'pgbench'"))
    assert not set(ours) & {row["instance_id"] for row in theirs}
