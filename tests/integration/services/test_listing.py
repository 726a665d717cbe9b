"""One listing for all callers: what it costs, when it is made, and what it may conclude."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from infra.local.simulators.railway import ENVIRONMENT_ID, PROJECT_ID
from shared.api.services import ServiceStatus, StatusBatch
from shared.services import limits, listing, names, observe
from shared.services.hosting.base import Placement, Seen
from shared.services.hosting.documents import PAGE_SIZE
from shared.services.patience import Patience
from shared.services.store import observations
from tests.integration.services.stage import IMAGE, Stage


@pytest.mark.parametrize(
    ("pages", "hourly_limit", "share", "expected"),
    [(1, 10_000, 0.3, 60.0), (0, None, 0.3, 60.0), (40, 1000, 0.3, 480.0), (40, None, 0.3, 480.0), (4, 10_000, 0.3, 60.0)],
)
def test_the_interval_follows_from_the_size_and_the_allowance(
    pages: int, hourly_limit: int | None, share: float, expected: float
) -> None:
    assert listing.interval_seconds(pages, hourly_limit=hourly_limit, share=share) == expected


def test_two_thousand_instances_cost_as_many_calls_as_pages_and_a_fixed_number_of_statements(stage: Stage) -> None:
    """P34."""
    ids = [f"i{number:04}" for number in range(2000)]
    for one in ids:
        service_id = stage.railway.add_service(names.make("test", one), image=IMAGE, status="SUCCESS")
        stage.insert(one, placement=Placement("shared", PROJECT_ID, ENVIRONMENT_ID, service_id, "v", f"{one}.nowhere"))
    stage.railway.calls.clear()
    stage.look()
    pages = -(-2000 // PAGE_SIZE)
    assert len(stage.railway.calls) == pages

    statements = []
    for size in (5, 500, 500, 500):
        before = stage.db.statements
        page = stage.look(*ids[:size], deadline=60)
        statements.append(stage.db.statements - before)
        assert len(page.instances) == size

    assert len(stage.railway.calls) == pages
    assert set(statements) == {3}, "whether it is due, the rows, the verdicts"


def test_a_listing_is_not_repeated_within_a_minute_and_is_after_it(stage: Stage) -> None:
    stage.build("a")
    stage.look("a")
    pages = stage.listings()

    stage.age(50)
    stage.look("a")
    assert stage.listings() == pages

    stage.age(11)
    stage.look("a")
    assert stage.listings() == pages + 1


def test_many_callers_at_once_list_once(stage: Stage) -> None:
    """P34."""
    stage.build("a")
    before = stage.listings()
    threads = [threading.Thread(target=stage.look, args=("a",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert stage.listings() == before + 1


def test_gone_takes_two_complete_listings_a_minute_apart(stage: Stage) -> None:
    service_id = stage.build("a")
    stage.look("a")
    stage.railway.world.services[service_id].deleted_at = 1.0
    _forget_service(stage, service_id)

    stage.age(61)
    assert stage.look_at("a").status is not ServiceStatus.GONE
    stage.age(30)
    assert stage.look_at("a").status is not ServiceStatus.GONE, "no second listing yet"
    stage.age(31)
    assert stage.look_at("a").status is ServiceStatus.GONE


def _forget_service(stage: Stage, service_id: str) -> None:
    """Have the provider lose a service."""
    for key in [key for key in stage.railway.world.instances if key[0] == service_id]:
        del stage.railway.world.instances[key]


def test_two_listings_that_follow_each_other_closely_conclude_nothing(stage: Stage) -> None:
    stage.insert("a")
    _list_now(stage)
    stage.age(30)
    _list_now(stage)

    assert stage.look_at("a").status is not ServiceStatus.GONE


def _list_now(stage: Stage) -> None:
    stage.do("UPDATE services.leases SET expires_at = now() - interval '1 second';")
    assert listing.refresh_if_due(stage.context, Patience(20))


def test_an_instance_that_is_seen_again_was_never_gone(stage: Stage) -> None:
    stage.build("a")
    stage.do("UPDATE services.instances SET gone = true, missing_since = now() - interval '5 minutes';")

    assert stage.look_at("a").status is ServiceStatus.HEALTHY


def test_a_listing_that_began_before_an_instance_was_built_does_not_miss_it(stage: Stage) -> None:
    stage.insert("a")
    stage.do("UPDATE services.instances SET built_at = now() + interval '1 second';")
    for _ in range(3):
        _list_now(stage)
        stage.do("UPDATE services.listings SET began_at = began_at - interval '70 seconds';")

    assert stage.do("SELECT missing_since FROM services.instances;")[0]["missing_since"] is None


@pytest.mark.parametrize("cut", ["next_fails", "half", "stuck"])
def test_a_listing_cut_short_concludes_nothing(stage: Stage, cut: str) -> None:
    """P35."""
    stage.railway.behaviour.max_page = 2
    for number in range(5):
        stage.build(f"i{number}")
    stage.look()
    stage.railway.behaviour.cut = cut
    ids = [f"i{number}" for number in range(5)]
    for _ in range(3):
        stage.age(70)
        page = stage.look(*ids)
        assert not page.listing.complete
        assert page.listing.id is not None

    assert {one.status for one in page.instances.values()} == {ServiceStatus.HEALTHY}
    assert {row["missing_since"] for row in stage.do("SELECT missing_since FROM services.instances;")} == {None}


def test_a_listing_of_another_place_concludes_nothing_about_this_one(stage: Stage) -> None:
    """P35: after a change of project, what runs in the former one is not absent, it is not listed."""
    stage.insert("a")
    stage.do("UPDATE services.instances SET project_id = 'former';")
    for _ in range(3):
        _list_now(stage)
        stage.age(70)

    assert stage.look_at("a").status is not ServiceStatus.GONE


def test_a_provider_that_hangs_takes_no_more_than_its_part_of_the_deadline(stage: Stage) -> None:
    """P33, P36."""
    stage.build("a")
    stage.look("a")
    stage.age(61)
    stage.railway.fail("*", "hang", seconds=3, times=None)
    began = datetime.now(UTC)

    page = stage.look("a", deadline=1)

    assert datetime.now(UTC) - began < timedelta(seconds=1.5)
    assert page.instances["a"].status is ServiceStatus.HEALTHY
    assert not page.listing.complete
    stage.railway.heal()


def test_an_observation_that_began_earlier_never_overwrites_a_later_one(stage: Stage) -> None:
    service_id = stage.build("a")
    later = stage.do("SELECT now() AS now;")[0]["now"]
    new = Seen(service_id, "n", "d2", "SUCCESS", IMAGE, None)
    old = Seen(service_id, "n", "d1", "BUILDING", IMAGE, None)

    observations.record_seen(stage.db, [(new, later)])
    observations.record_seen(stage.db, [(old, later - timedelta(seconds=1))])

    row = stage.do("SELECT deployment_id, deploy_status FROM services.instances;")[0]
    assert row == {"deployment_id": "d2", "deploy_status": "SUCCESS"}


def test_what_the_provider_leaves_out_is_unchanged(stage: Stage) -> None:
    """P33: a service without a deployment in the answer is not a service that is being started."""
    service_id = stage.build("a")
    stage.look("a")
    now = stage.do("SELECT now() AS now;")[0]["now"]

    observations.record_seen(stage.db, [(Seen(service_id, "n", None, None, None, None), now)])

    assert stage.look_at("a", max_age=60).status is ServiceStatus.HEALTHY


def test_only_the_last_listings_are_kept(stage: Stage) -> None:
    for _ in range(53):
        _list_now(stage)

    assert stage.do("SELECT count(*) AS n FROM services.listings;")[0]["n"] == 50


def test_limits_tell_the_allowance_of_the_last_answer(stage: Stage) -> None:
    assert limits.limits(stage.context).hourly_limit is None
    stage.build("a")
    stage.look("a")

    told = limits.limits(stage.context)

    assert told.hourly_limit == 10_000
    assert told.remaining is not None
    assert told.listing_interval_seconds == 60
    assert told.listing_at is not None


def test_a_process_that_dies_while_listing_blocks_the_next_for_a_while_only(stage: Stage) -> None:
    stage.build("a")
    observations.begin_listing(stage.db, holder=uuid.uuid4(), seconds=60)
    before = stage.listings()
    page = observe.status_batch(StatusBatch(instance_ids=["a"]), stage.context)
    assert stage.listings() == before
    assert page.listing.id is None, "a listing that never ended is nobody's ground"

    stage.age(61)
    stage.look("a")
    assert stage.listings() == before + 1
