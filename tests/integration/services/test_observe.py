"""What `status/batch` says, and what it never concludes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from infra.runtime.agent import Mode
from shared.api.services import ServiceStatus, StatusBatch
from shared.db import Query
from shared.services import configure, observe
from shared.services.hosting.base import Seen
from shared.services.runtime import Verdict
from shared.services.store import observations
from shared.services.store.observations import Checked
from tests.integration.services.stage import Stage, a_hand_over


def test_a_ready_instance_is_healthy(stage: Stage) -> None:
    stage.build("a")

    seen = stage.look_at("a")

    assert seen.status is ServiceStatus.HEALTHY
    assert seen.deploy_status == "SUCCESS"
    assert seen.failed_checks == 0
    assert seen.checked_at is not None
    assert seen.url is not None


@pytest.mark.parametrize("mode", [Mode.NOT_READY, Mode.READY_FALSE, Mode.HTML])
def test_an_answer_that_does_not_say_ready_is_unhealthy(stage: Stage, mode: Mode) -> None:
    """P38."""
    stage.build("a")
    stage.look_at("a")
    stage.agent("a").mode = mode

    seen = stage.look_at("a")

    assert seen.status is ServiceStatus.UNHEALTHY
    assert seen.reason
    assert "<html>" not in seen.reason


def test_a_silent_instance_is_unreachable_and_an_answer_forgets_the_failures(stage: Stage) -> None:
    """P32: failures are counted with the moment of the first; one success ends the row."""
    stage.build("a")
    stage.look_at("a")
    stage.agent("a").mode = Mode.CRASHED
    first = stage.look_at("a")
    second = stage.look_at("a")

    assert (first.status, first.failed_checks) == (ServiceStatus.UNREACHABLE, 1)
    assert (second.failed_checks, second.failing_since) == (2, first.failing_since)

    stage.agent("a").mode = Mode.NORMAL
    assert stage.look_at("a").failed_checks == 0


def test_a_verdict_that_is_young_enough_is_not_asked_for_again(stage: Stage) -> None:
    stage.build("a")
    first = stage.look_at("a")
    stage.agent("a").mode = Mode.CRASHED

    assert stage.look_at("a", max_age=30) == first


def test_a_sleeping_instance_is_asked_nothing_until_it_is_to_be_woken(stage: Stage) -> None:
    """P32."""
    service_id = stage.build("a")
    stage.railway.set_deploy_status(service_id, "SLEEPING")
    agent = stage.agent("a")
    before = len(agent.calls)

    assert stage.look_at("a").status is ServiceStatus.SLEEPING
    assert len(agent.calls) == before
    assert stage.machines.is_asleep(_domain(stage, "a"))

    woken = stage.look_at("a", wake=["a"])
    assert (woken.status, woken.failed_checks) == (ServiceStatus.SLEEPING, 0)
    assert not stage.machines.is_asleep(_domain(stage, "a"))

    stage.age(61)
    assert stage.look_at("a").status is ServiceStatus.HEALTHY


def _domain(stage: Stage, instance_id: str) -> str:
    domain = stage.do("SELECT domain FROM services.instances WHERE id = :id;", id=instance_id)[0]["domain"]
    assert isinstance(domain, str)
    return domain


def test_an_instance_being_started_is_read_by_itself_between_listings(stage: Stage) -> None:
    stage.railway.behaviour.boot_seconds = 3600
    service_id = stage.build("a")
    assert stage.look_at("a").status is ServiceStatus.DEPLOYING
    pages = stage.listings()
    stage.railway.set_deploy_status(service_id, "SUCCESS")

    assert stage.look_at("a").status is ServiceStatus.DEPLOYING, "the listing is young enough"
    stage.do("UPDATE services.instances SET seen_at = seen_at - interval '20 seconds';")

    assert stage.look_at("a").status is ServiceStatus.HEALTHY
    assert stage.listings() == pages


def test_at_most_ten_instances_are_read_by_themselves(stage: Stage) -> None:
    """P34."""
    stage.look()
    ids = [f"i{number}" for number in range(30)]
    stage.insert(*ids)
    before = len(stage.railway.calls)

    stage.look(*ids)

    assert len(stage.railway.calls) - before == 10


def test_when_the_allowance_runs_low_it_is_kept_for_the_listings(stage: Stage) -> None:
    """P34."""
    stage.railway.behaviour.hourly_limit = 100
    stage.look()
    stage.do("UPDATE services.facts SET remaining = 9;")
    stage.insert("a")
    before = len(stage.railway.calls)

    stage.look("a")

    assert len(stage.railway.calls) == before


def test_states_that_need_no_provider(stage: Stage) -> None:
    stage.insert("creating", "destroying", "destroyed")
    stage.do("UPDATE services.instances SET state = 'creating', built_at = NULL WHERE id = 'creating';")
    stage.do("UPDATE services.instances SET state = 'destroying', destroy_asked_at = now() WHERE id = 'destroying';")
    stage.destroy("destroyed")

    page = stage.look("creating", "destroying", "destroyed", "nobody")

    assert {key: one.status.value for key, one in page.instances.items()} == {
        "creating": "creating",
        "destroying": "destroying",
        "destroyed": "gone",
        "nobody": "unregistered",
    }


def test_without_ids_all_that_are_not_destroyed_are_paged_through(stage: Stage) -> None:
    """P35."""
    ids = [f"i{number:04}" for number in range(1003)]
    stage.insert(*ids)
    stage.destroy("i0500")
    found: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        page = observe.status_batch(StatusBatch(cursor=cursor), stage.context)
        found += page.instances
        cursor = page.next

    assert cursor is None
    assert found == [one for one in ids if one != "i0500"]


def test_an_outage_of_the_provider_changes_nothing_and_checks_go_on(stage: Stage) -> None:
    """P33."""
    stage.build("a")
    stage.look_at("a")
    stage.railway.fail("*", "refuse", status=503, times=None)
    stage.age(61)

    page = stage.look("a")

    assert page.instances["a"].status is ServiceStatus.HEALTHY
    assert not page.listing.complete


def test_what_the_deadline_does_not_reach_keeps_its_verdict_and_comes_first_next_time(stage: Stage) -> None:
    """P36."""
    slow = Stage(stage.context.settings.services_database_url.get_secret_value(), health_concurrency=1)
    ids = [f"i{number}" for number in range(4)]
    for one in ids:
        slow.build(one)
    slow.look(*ids)
    for one in ids:
        slow.agent(one).fail("health", "hook", before=lambda: time.sleep(0.15), times=None)
    slow.age(50)
    first = slow.look(*ids, deadline=0.5).instances
    newest = max(one.checked_at for one in first.values() if one.checked_at)
    unreached = {key for key, one in first.items() if one.checked_at and newest - one.checked_at > timedelta(seconds=30)}
    assert unreached
    assert unreached != set(ids)
    assert all(one.status is ServiceStatus.HEALTHY for one in first.values())

    second = slow.look(*ids, max_age=10, deadline=5).instances

    assert {key for key in ids if second[key].checked_at != first[key].checked_at} == unreached
    slow.close()


def test_one_instance_whose_secret_cannot_be_read_stops_no_other(stage: Stage) -> None:
    """P36."""
    for one in ("a", "b"):
        stage.build(one)
    stage.do("UPDATE services.instances SET gateway_token = 'v1.lost.AAAA' WHERE id = 'a';")

    page = stage.look("a", "b")

    assert page.instances["a"].status is ServiceStatus.UNKNOWN
    assert page.instances["b"].status is ServiceStatus.HEALTHY


def test_two_batches_at_once_count_one_failure(stage: Stage) -> None:
    """A verdict counts once: two callers at the same moment are one check."""
    stage.build("a")
    stage.look("a")
    both = threading.Barrier(2, timeout=10)
    stage.agent("a").mode = Mode.NOT_READY
    stage.agent("a").fail("health", "hook", before=both.wait, times=2)

    threads = [threading.Thread(target=stage.look, args=("a",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert stage.look_at("a", max_age=60).failed_checks == 1


def test_a_new_deployment_starts_with_a_clean_sheet(stage: Stage) -> None:
    service_id = stage.build("a")
    stage.agent("a").mode = Mode.NOT_READY
    assert stage.look_at("a").failed_checks == 1

    stage.railway.crash(service_id)
    stage.age(61)
    seen = stage.look_at("a")

    assert (seen.status, seen.failed_checks) == (ServiceStatus.DEPLOY_FAILED, 0)


def test_an_introduced_instance_that_comes_back_is_asked_whom_it_talks_to(stage: Stage) -> None:
    """P39: a conversation is known only from after the last time it was away."""
    stage.build("a")
    stage.look("a")
    configured = configure.configure("a", a_hand_over(), stage.context)
    assert stage.look_at("a").conversation_id == configured.conversation_id

    stage.agent("a").mode = Mode.CRASHED
    assert stage.look_at("a").conversation_id is None

    stage.agent("a").mode = Mode.NORMAL
    back = stage.look_at("a")
    assert (back.conversation_id, back.clean) == (configured.conversation_id, False)
    assert stage.agent("a").operations().count("status") == 1
    stage.look_at("a")
    assert stage.agent("a").operations().count("status") == 1, "asked once"


def test_an_instance_that_was_reset_behind_our_back_does_not_keep_its_conversation(stage: Stage) -> None:
    """P39."""
    stage.build("a")
    configure.configure("a", a_hand_over(), stage.context)
    stage.look_at("a")
    stage.agent("a").mode = Mode.CRASHED
    stage.look_at("a")
    stage.agent("a").mode = Mode.NORMAL
    stage.agent("a").memory.reset()

    back = stage.look_at("a")

    assert (back.conversation_id, back.clean) == (None, True)


def test_a_conversation_that_is_not_told_is_asked_for_again(stage: Stage) -> None:
    stage.build("a")
    configured = configure.configure("a", a_hand_over(), stage.context)
    stage.agent("a").mode = Mode.CRASHED
    stage.look_at("a")
    stage.agent("a").mode = Mode.NORMAL
    stage.agent("a").fail("status", "refuse", status=500)

    assert stage.look_at("a").conversation_id is None
    assert stage.look_at("a").conversation_id == configured.conversation_id


def test_an_instance_that_was_never_introduced_is_not_asked_whom_it_talks_to(stage: Stage) -> None:
    stage.build("a")
    stage.look_at("a")

    assert "status" not in stage.agent("a").operations()


@pytest.mark.parametrize("kind", ["seen", "verdicts"])
def test_bulk_writers_lock_in_one_order_so_that_no_two_wait_for_each_other(stage: Stage, kind: str) -> None:
    """A listing names instances in the provider's order, checks in the order of their urgency; both may be stored at once."""
    names = ["e", "d", "c", "b", "a"]
    stage.insert(*names)
    stage.do("UPDATE services.instances SET deploy_status = 'SUCCESS', deployment_id = 'd';")
    batch = observations.read_batch(stage.db, None, after="", count=10, first_image="i")
    rows = {row.id: row for row in batch.watched}
    seen = [(Seen(f"service-{name}", name, "d", "SUCCESS", None, None), batch.now) for name in names]
    checked = [Checked(rows[name], Verdict.READY, "", batch.now) for name in names]
    with ThreadPoolExecutor(1) as threads, stage.db.transaction() as other:
        other.run(Query.parse("test", "SELECT id FROM services.instances WHERE id = 'c' FOR UPDATE;"))
        writing = threads.submit(
            lambda: (
                observations.record_seen(stage.db, seen) if kind == "seen" else observations.record_verdicts(stage.db, checked)
            )
        )
        blocked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock';"
        while not writing.done() and not stage.do(blocked):
            time.sleep(0.01)
        free = other.run(Query.parse("test", "SELECT id FROM services.instances ORDER BY id FOR UPDATE SKIP LOCKED;"))
        assert [row["id"] for row in free] == ["c", "d", "e"]
    writing.result()
