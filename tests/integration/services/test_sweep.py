"""The sweep: what vendors hold and our tables do not know, and the reverse; what is told, ended, and never touched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from infra.local.simulators.railway import ENVIRONMENT_ID
from shared.services import names
from shared.services.inventories import NOT_LISTED
from shared.services.plugins import PLUGINS
from shared.services.store import sweep as store
from shared.services.store import turns
from tests.world import ALL_TOOLS, ENVIRONMENT, SERVICES_KEY, VENDOR_KEYS, Killed, World, build

GHOST = names.make(ENVIRONMENT, "ghost")
VENDORS = ("hosting", *(tool for tool in PLUGINS if tool not in NOT_LISTED))
LISTING = {
    "hosting": ("railway", "environment"),
    "openrouter": ("openrouter", "list_keys"),
    "email": ("agentmail", "list_inboxes"),
    "sms": ("telnyx", "list_numbers"),
}

ENDING = [
    ("openrouter", "openrouter", "delete_key"),
    ("email", "agentmail", "delete_inbox"),
    ("hosting", "railway", "serviceDelete"),
]
"""A number is missing here: it goes to our stock, for which nobody is called."""


@pytest.fixture
def deleting(database_url: str) -> Iterator[World]:
    """A services side whose setting allows sweeps to delete, and calls nothing too young."""
    made = build(database_url, SWEEP_MODE="delete", SWEEP_GRACE_SECONDS="0")
    yield made
    made.close()


@pytest.fixture
def reporting(database_url: str) -> Iterator[World]:
    """A services side whose sweeps only report, and call nothing too young."""
    made = build(database_url, SWEEP_GRACE_SECONDS="0")
    yield made
    made.close()


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def hold(world: World, vendor: str, name: str = GHOST) -> str:
    """Have a vendor hold something that our tables do not know; return its id."""
    if vendor == "hosting":
        return world.railway.add_service(name)
    plugin = world.provision[vendor].plugin
    assert plugin is not None
    return plugin.provision(name, attempt=1, doubtful=False).resource_id


def held(world: World, vendor: str) -> dict[str, Any]:
    return world.inventories()["services" if vendor == "hosting" else vendor]


def drop(world: World, vendor: str, resource: str) -> None:
    """Have the vendor lose something without our doing."""
    if vendor == "hosting":
        with world.railway.lock:
            world.railway.world.delete_service(resource)
        return
    plugin = world.provision[vendor].plugin
    assert plugin is not None
    plugin.release(resource)


def sweep(world: World, **body: Any) -> dict[str, Any]:
    answer = world.http.post("/sweep", json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def a_minute_passes(world: World) -> None:
    past = "interval '61 seconds'"
    world.run(f"UPDATE services.findings SET first_seen_at = first_seen_at - {past}, last_seen_at = last_seen_at - {past};")


def sweep_twice(world: World, **body: Any) -> dict[str, Any]:
    sweep(world, **body)
    a_minute_passes(world)
    return sweep(world, **body)


def told(result: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(one["kind"], one["vendor"], one["resourceId"]) for one in result["findings"]}


# --- orphans are told


def test_where_everything_is_known_there_is_nothing_to_tell(reporting: World) -> None:
    reporting.create("a1", *ALL_TOOLS)
    reporting.create("a2")
    result = sweep(reporting)
    assert result == {
        "findings": [],
        "complete": {"hosting": True, "openrouter": True, "wallet": None, "email": True, "sms": True, "crypto": None},
        "notes": NOT_LISTED,
        "acted": 0,
        "mode": "report",
    }


def test_an_orphan_is_told_and_left_alone(reporting: World, vendor: str) -> None:
    """P17; the setting's default is to report."""
    reporting.create("a1", *ALL_TOOLS)
    orphan = hold(reporting, vendor)
    before = reporting.inventories()
    first, second = sweep(reporting), sweep_twice(reporting)
    assert told(first) == told(second) == {("orphan", vendor, orphan)}
    (finding,) = second["findings"]
    assert (finding["name"], finding["instanceId"], finding["timesSeen"]) == (GHOST, None, 3)
    assert (first["findings"][0]["confirmed"], finding["confirmed"], finding["actedAt"]) == (False, True, None)
    assert (first["findings"][0]["id"], second["acted"]) == (finding["id"], 0)
    assert reporting.inventories() == before


def test_an_orphan_that_went_by_itself_is_told_no_more(reporting: World, vendor: str) -> None:
    orphan = hold(reporting, vendor)
    assert sweep(reporting)["findings"]
    drop(reporting, vendor, orphan)
    assert sweep(reporting)["findings"] == []
    assert reporting.run("SELECT resolved_at IS NOT NULL AS over FROM services.findings;") == [{"over": True}]


def test_one_that_comes_back_is_a_new_finding(deleting: World) -> None:
    """P26: two sightings with an absence between them confirm nothing."""
    hold(deleting, "email")
    sweep(deleting)
    a_minute_passes(deleting)
    simulator = deleting.simulators["agentmail"]
    simulator.fail("list_inboxes", "refuse", status=200, body={"inboxes": [], "count": 0})
    assert sweep(deleting)["findings"] == []
    (finding,) = sweep(deleting)["findings"]
    assert (finding["timesSeen"], finding["confirmed"]) == (1, False)


# --- orphans are ended


def test_an_orphan_is_ended_only_after_two_sweeps_a_minute_apart_saw_it(deleting: World, vendor: str) -> None:
    """P26."""
    deleting.create("a1", *ALL_TOOLS)
    orphan = hold(deleting, vendor)
    for _ in range(3):
        result = sweep(deleting)
        assert (told(result), result["acted"]) == ({("orphan", vendor, orphan)}, 0)
    a_minute_passes(deleting)
    result = sweep(deleting)
    assert (result["findings"], result["acted"], result["mode"]) == ([], 1, "delete")
    assert (orphan in held(deleting, vendor)) == (vendor == "sms")
    assert sweep_twice(deleting)["findings"] == []
    assert deleting.inventories() == deleting.tables()
    assert deleting.run("SELECT id FROM services.instances WHERE state = 'created';") == [{"id": "a1"}]


def test_a_number_that_was_found_goes_to_our_stock_and_to_the_next_instance(deleting: World) -> None:
    """P31."""
    number = hold(deleting, "sms")
    assert sweep_twice(deleting)["acted"] == 1
    deleting.run("UPDATE services.instance_services SET available_at = now() WHERE status = 'cooling';")
    deleting.create("a1", "sms")
    assert list(held(deleting, "sms")) == [number]
    assert sweep(deleting)["findings"] == []


def test_several_attempts_of_one_instance_are_ended_together(deleting: World) -> None:
    hold(deleting, "openrouter")
    hold(deleting, "openrouter", names.make(ENVIRONMENT, "ghost", attempt=2))
    assert sweep_twice(deleting)["acted"] == 2
    assert held(deleting, "openrouter") == {}


def test_an_orphan_of_a_destroyed_instance_is_ended(deleting: World, vendor: str) -> None:
    deleting.create("ghost", *ALL_TOOLS)
    deleting.destroy("ghost")
    hold(deleting, vendor)
    assert sweep_twice(deleting)["acted"] == 1
    assert deleting.inventories() == deleting.tables()


def test_an_orphan_beside_its_living_instance_costs_the_instance_nothing(deleting: World) -> None:
    """A second key of a1, from a purchase that was lost track of."""
    deleting.create("a1")
    (own,) = held(deleting, "openrouter")
    hold(deleting, "openrouter", names.make(ENVIRONMENT, "a1"))
    assert sweep_twice(deleting)["acted"] == 1
    assert list(held(deleting, "openrouter")) == [own]


@pytest.mark.parametrize(("vendor", "simulator", "operation"), ENDING)
def test_what_could_not_be_ended_stays_with_its_reason_and_is_tried_again(
    deleting: World, vendor: str, simulator: str, operation: str
) -> None:
    """P25: one failure stops no other, and a report ends nothing, not even what was begun."""
    orphan = hold(deleting, vendor)
    hold(deleting, "sms")
    sweep(deleting)
    a_minute_passes(deleting)
    deleting.simulators[simulator].fail(operation, "refuse", status=403, times=None)
    result = sweep(deleting)
    (finding,) = result["findings"]
    assert (finding["resourceId"], result["acted"]) == (orphan, 1)
    assert finding["reason"]
    assert finding["actedAt"]
    deleting.heal()
    deleting.let_time_pass()
    assert sweep(deleting, mode="report")["acted"] == 0
    assert orphan in held(deleting, vendor)
    result = sweep(deleting)
    assert (result["acted"], result["findings"]) == (1, [])
    assert deleting.inventories() == deleting.tables()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("vendor", "simulator", "operation"), ENDING)
def test_a_sweep_killed_while_it_ends_something_is_gone_on_with(
    deleting: World, moment: str, vendor: str, simulator: str, operation: str
) -> None:
    """P17."""

    def die() -> None:
        raise Killed

    hold(deleting, vendor)
    sweep(deleting)
    a_minute_passes(deleting)
    deleting.simulators[simulator].fail(operation, "hook", **{moment: die})
    with pytest.raises(Killed):
        sweep(deleting)
    deleting.let_time_pass()
    assert sweep(deleting)["findings"] == []
    assert deleting.inventories() == deleting.tables()


# --- what is never touched


def test_what_is_younger_than_the_grace_period_is_not_even_told(database_url: str, vendor: str) -> None:
    """P26."""
    world = build(database_url, SWEEP_MODE="delete")
    orphan = hold(world, vendor)
    result = sweep_twice(world)
    assert (result["findings"], result["acted"]) == ([], 0)
    assert orphan in held(world, vendor)
    world.close()


def test_past_the_grace_period_it_is_ended(database_url: str) -> None:
    """P26: the vendor tells how old it is."""
    world = build(database_url, SWEEP_MODE="delete")
    orphan = hold(world, "openrouter")

    def listed(hours: float) -> None:
        created_at = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        body = {"data": [{"hash": orphan, "name": GHOST, "created_at": created_at}]}
        world.simulators["openrouter"].fail("list_keys", "refuse", status=200, body=body, times=2)

    listed(hours=0.9)
    assert (sweep_twice(world)["acted"], orphan in held(world, "openrouter")) == (0, True)
    listed(hours=1.1)
    assert sweep(world)["acted"] == 0, "what was seen while it was young counts for nothing"
    a_minute_passes(world)
    assert (sweep(world)["acted"], held(world, "openrouter")) == (1, {})
    world.close()


@pytest.mark.parametrize("said", ["", "yesterday", "2020-01-01T00:00:00"])
def test_where_the_vendor_tells_no_age_we_count_from_our_first_sight(database_url: str, said: str) -> None:
    world = build(database_url, SWEEP_MODE="delete")
    orphan = hold(world, "openrouter")
    body = {"data": [{"hash": orphan, "name": GHOST, "created_at": said}]}
    world.simulators["openrouter"].fail("list_keys", "refuse", status=200, body=body, times=None)
    result = sweep_twice(world)
    assert (result["findings"], result["acted"]) == ([], 0)
    world.run("UPDATE services.findings SET first_seen_at = first_seen_at - interval '1 hour';")
    assert (sweep(world)["acted"], held(world, "openrouter")) == (1, {})
    world.close()


def test_other_environments_and_other_people_are_none_of_our_business(deleting: World, vendor: str) -> None:
    """P26: a sweep of staging once deleted production; another one deleted databases."""
    for environment in ("prod", "tests", "tes", "Test"):
        hold(deleting, vendor, names.make(environment, "ghost"))
    for name in ("convos-agent-test-", "convos-agent-test-a-b", "my-convos-agent-test-a", "Postgres"):
        hold(deleting, vendor, name)
    before = deleting.inventories()
    result = sweep_twice(deleting, acceptLosses=True)
    assert (result["findings"], result["acted"]) == ([], 0)
    assert deleting.inventories() == before


def test_a_number_that_rests_in_our_stock_is_no_orphan(deleting: World) -> None:
    """P31: it still carries the name of an instance that is gone."""
    deleting.create("a1", "sms")
    deleting.destroy("a1")
    before = held(deleting, "sms")
    assert before
    assert sweep_twice(deleting)["findings"] == []
    assert held(deleting, "sms") == before
    assert deleting.inventories() == deleting.tables()


@pytest.mark.parametrize(
    ("simulator", "operation", "tools"),
    [
        ("railway", "serviceCreate", ()),
        ("openrouter", "create_key", ()),
        ("agentmail", "create_inbox", ("email",)),
        ("telnyx", "create_order", ("sms",)),
    ],
)
def test_a_purchase_whose_answer_was_lost_is_no_orphan(
    deleting: World, simulator: str, operation: str, tools: tuple[str, ...]
) -> None:
    """P17: the intent knows it by its name, and the creation goes on with it."""
    deleting.simulators[simulator].fail(operation, "lose")
    assert deleting.create("a1", *tools).status_code == 202
    assert (sweep_twice(deleting)["findings"], sweep(deleting)["acted"]) == ([], 0)
    deleting.repeat(lambda: deleting.create("a1", *tools))
    assert deleting.inventories() == deleting.tables()


def test_a_release_whose_answer_was_lost_is_no_orphan(deleting: World) -> None:
    deleting.create("a1", "email")
    deleting.simulators["agentmail"].fail("delete_inbox", "refuse", status=500)
    assert deleting.destroy("a1").status_code == 202
    assert (sweep_twice(deleting)["findings"], sweep(deleting)["acted"]) == ([], 0)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_is_bought_while_a_vendor_is_listed_is_no_orphan(deleting: World, vendor: str, moment: str) -> None:
    """P27, P33: our tables are read after the listing, too."""
    simulator, operation = LISTING[vendor]
    deleting.create("a1", *ALL_TOOLS)
    deleting.simulators[simulator].fail(operation, "hook", **{moment: partial(deleting.create, "a2", *ALL_TOOLS)})
    assert sweep(deleting)["findings"] == []
    assert len(held(deleting, "openrouter")) == 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_what_is_released_while_a_vendor_is_listed_is_neither_orphan_nor_missing(
    deleting: World, vendor: str, moment: str
) -> None:
    """Our tables are read before the listing, too."""
    simulator, operation = LISTING[vendor]
    deleting.create("a1", *ALL_TOOLS)
    deleting.simulators[simulator].fail(operation, "hook", **{moment: partial(deleting.destroy, "a1")})
    assert sweep(deleting)["findings"] == []
    assert held(deleting, "openrouter") == {}


def adopt_number(world: World, number: str) -> None:
    world.run(
        "INSERT INTO services.instance_services (tool, status, name, resource_id, available_at)"
        " VALUES ('sms', 'cooling', :name, :number, now());",
        name=GHOST,
        number=number,
    )


def test_what_our_tables_learn_of_while_it_is_listed_is_no_orphan(deleting: World) -> None:
    """P27: our tables are read after the listing, too."""
    number = hold(deleting, "sms")
    deleting.simulators["telnyx"].fail("list_numbers", "hook", after=lambda: adopt_number(deleting, number))
    assert sweep(deleting)["findings"] == []
    assert deleting.run("SELECT id FROM services.findings;") == []


def test_an_orphan_that_is_known_by_the_time_it_would_be_ended_is_left_alone(deleting: World) -> None:
    number = hold(deleting, "sms")
    hold(deleting, "openrouter")
    sweep(deleting)
    a_minute_passes(deleting)
    deleting.simulators["openrouter"].fail("delete_key", "hook", before=lambda: adopt_number(deleting, number))
    result = sweep(deleting)
    assert (told(result), result["acted"]) == ({("orphan", "sms", number)}, 1)
    assert sweep(deleting)["findings"] == []
    assert deleting.inventories() == deleting.tables()


def test_an_orphan_that_a_purchase_may_adopt_by_the_time_it_would_be_ended_is_left_alone(deleting: World) -> None:
    """The purchase is of the same instance, and has the same name or an earlier attempt's."""
    deleting.create("a1")
    inbox = hold(deleting, "email", names.make(ENVIRONMENT, "a1", attempt=2))
    hold(deleting, "openrouter")
    sweep(deleting)
    a_minute_passes(deleting)

    def intend() -> None:
        deleting.run(
            "INSERT INTO services.instance_services (instance_id, tool, status, name) VALUES ('a1', 'email', 'intended', :name);",
            name=names.make(ENVIRONMENT, "a1"),
        )

    deleting.simulators["openrouter"].fail("delete_key", "hook", before=intend)
    result = sweep(deleting)
    assert (told(result), result["acted"]) == ({("orphan", "email", inbox)}, 1)
    assert inbox in held(deleting, "email")


def test_a_machine_whose_creation_begins_before_it_would_be_removed_is_left_alone(deleting: World) -> None:
    hold(deleting, "hosting")
    sweep(deleting)
    (finding,) = store.list_open(deleting.db, grace_seconds=0)
    assert turns.take(deleting.db, "sweep", holder=(holder := uuid4()), seconds=60)
    deleting.run("INSERT INTO services.instances (id, name, state) VALUES ('ghost', :name, 'creating');", name=GHOST)
    assert not store.begin_removal(deleting.db, finding, holder=holder)
    deleting.run("DELETE FROM services.instances;")
    assert store.begin_removal(deleting.db, finding, holder=holder)


# --- listings that are not complete


def test_a_vendor_that_cannot_be_listed_concludes_nothing_and_stops_no_other(deleting: World, vendor: str) -> None:
    """P26, P33, P35."""
    deleting.create("a1", *ALL_TOOLS)
    orphans = {one: hold(deleting, one) for one in VENDORS}
    sweep(deleting)
    a_minute_passes(deleting)
    simulator, operation = LISTING[vendor]
    deleting.simulators[simulator].fail(operation, "refuse", status=503, times=1)
    result = sweep(deleting)
    assert {one: result["complete"][one] for one in VENDORS} == {one: one != vendor for one in VENDORS}
    assert result["notes"][vendor]
    assert (told(result), result["acted"]) == ({("orphan", vendor, orphans[vendor])}, len(VENDORS) - 1)
    assert orphans[vendor] in held(deleting, vendor)
    assert sweep(deleting)["acted"] == 1
    assert deleting.inventories() == deleting.tables()


def test_a_part_of_a_listing_ends_nothing_and_misses_nothing(deleting: World) -> None:
    """P35: the first page came, the second one did not."""
    deleting.railway.behaviour.max_page = 2
    for instance_id in ("a1", "a2"):
        deleting.create(instance_id)
    orphan = hold(deleting, "hosting")
    sweep(deleting)
    a_minute_passes(deleting)
    deleting.railway.fail("environment", "refuse", skip=1, status=500, times=1)
    result = sweep(deleting)
    assert result["complete"]["hosting"] is False
    assert (told(result), result["acted"]) == ({("orphan", "hosting", orphan)}, 0)
    assert orphan in held(deleting, "hosting")
    assert sweep(deleting)["acted"] == 1


def test_a_listing_that_turns_in_circles_is_not_complete(deleting: World) -> None:
    deleting.railway.behaviour.max_page = 1
    hold(deleting, "hosting")
    hold(deleting, "hosting", names.make(ENVIRONMENT, "ghost2"))
    deleting.railway.behaviour.cut = "stuck"
    result = sweep(deleting)
    assert (result["complete"]["hosting"], result["findings"]) == (False, [])


def test_what_the_deadline_does_not_reach_is_said(deleting: World) -> None:
    hold(deleting, "sms")
    deleting.railway.latency_seconds = 0.3
    result = sweep(deleting, deadlineSeconds=0.1)
    assert [result["complete"][vendor] for vendor in VENDORS] == [False] * len(VENDORS)
    assert set(result["notes"]) == set(result["complete"])
    assert result["findings"] == []


def test_a_tool_without_its_key_is_not_listed_and_says_so(database_url: str) -> None:
    world = build(database_url, TELNYX_API_KEY=None)
    result = sweep(world)
    assert result["complete"]["sms"] is None
    assert "credentials" in result["notes"]["sms"]
    world.close()


# --- what is missing


def test_what_a_vendor_lost_is_told_and_changes_nothing(deleting: World, vendor: str) -> None:
    """A person decides: our tables and the instance stay as they are."""
    deleting.create("a1", *ALL_TOOLS)
    deleting.create("a2", *ALL_TOOLS)
    sql = "SELECT tool AS vendor, resource_id FROM services.instance_services WHERE instance_id = 'a1'"
    resources = {row["vendor"]: row["resource_id"] for row in deleting.run(sql + ";")}
    resources["hosting"] = deleting.run("SELECT service_id FROM services.instances WHERE id = 'a1';")[0]["service_id"]
    drop(deleting, vendor, resources[vendor])
    before = deleting.http.get("/resources/a1").json()
    result = sweep_twice(deleting)
    assert told(result) == {("missing", vendor, resources[vendor])}
    (finding,) = result["findings"]
    assert (finding["instanceId"], finding["confirmed"], result["acted"]) == ("a1", True, 0)
    assert deleting.http.get("/resources/a1").json() == before
    deleting.destroy("a1")
    assert sweep(deleting)["findings"] == []


def test_an_instance_of_another_place_is_not_missed(reporting: World) -> None:
    """P33: a listing tells nothing of a project that it does not cover."""
    reporting.create("a1")
    reporting.run("UPDATE services.instances SET environment_id = 'another', service_id = 'elsewhere';")
    assert [one["kind"] for one in sweep(reporting)["findings"]] == ["orphan"]
    reporting.run("UPDATE services.instances SET environment_id = :id;", id=ENVIRONMENT_ID)
    assert [one["kind"] for one in sweep(reporting)["findings"]] == ["orphan", "missing"]


# --- who may, and how often


def test_a_setting_that_only_reports_is_not_overruled(reporting: World) -> None:
    orphan = hold(reporting, "openrouter")
    sweep_twice(reporting)
    answer = reporting.http.post("/sweep", json={"mode": "delete"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "reports_only")
    assert orphan in held(reporting, "openrouter")


def test_a_caller_may_ask_for_less_than_the_setting_allows(deleting: World) -> None:
    orphan = hold(deleting, "openrouter")
    result = sweep_twice(deleting, mode="report")
    assert (result["mode"], result["acted"], told(result)) == ("report", 0, {("orphan", "openrouter", orphan)})
    assert orphan in held(deleting, "openrouter")


def test_most_of_what_is_ours_is_ended_only_when_that_is_confirmed(deleting: World) -> None:
    """P26: a sweep over an empty database, or somebody else's, must not end every agent there is."""
    for number in range(4):
        hold(deleting, "openrouter", names.make(ENVIRONMENT, f"ghost{number}"))
    result = sweep_twice(deleting)
    assert (len(result["findings"]), result["acted"]) == (4, 0)
    assert "4 of 4" in result["notes"]["openrouter"]
    assert sweep(deleting, acceptLosses=True)["acted"] == 4
    assert held(deleting, "openrouter") == {}


def test_one_sweep_goes_on_at_a_time(reporting: World) -> None:
    assert turns.take(reporting.db, "sweep", holder=uuid4(), seconds=60)
    called = reporting.calls()
    answer = reporting.http.post("/sweep", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "in_progress")
    assert answer.headers["Retry-After"]
    assert reporting.calls() == called
    reporting.run("UPDATE services.leases SET expires_at = now() WHERE name = 'sweep';")
    assert sweep(reporting)["findings"] == []


def test_a_sweep_that_lost_its_turn_writes_and_ends_nothing(deleting: World) -> None:
    hold(deleting, "openrouter")

    def lose() -> None:
        deleting.run("UPDATE services.leases SET holder = :other WHERE name = 'sweep';", other=uuid4())

    deleting.simulators["telnyx"].fail("list_numbers", "hook", after=lose)
    assert deleting.http.post("/sweep", json={}).json()["error"]["code"] == "in_progress"
    assert deleting.run("SELECT id FROM services.findings;") == []
    deleting.run("DELETE FROM services.leases;")
    sweep(deleting)
    a_minute_passes(deleting)
    deleting.run("UPDATE services.findings SET last_seen_at = now();")
    (finding,) = store.list_open(deleting.db, grace_seconds=0)
    assert finding.confirmed
    assert not store.adopt(deleting.db, finding, holder=uuid4())
    assert not store.begin_removal(deleting.db, finding, holder=uuid4())


def test_repeating_a_sweep_finds_the_same_once(reporting: World) -> None:
    for vendor in VENDORS:
        hold(reporting, vendor)
    results = [sweep(reporting) for _ in range(3)]
    assert [told(result) for result in results] == [told(results[0])] * 3
    assert len(reporting.run("SELECT id FROM services.findings;")) == len(VENDORS)


def test_old_findings_are_forgotten_with_what_the_ledger_remembers_of_them(deleting: World) -> None:
    hold(deleting, "openrouter")
    assert sweep_twice(deleting)["acted"] == 1
    assert deleting.run("SELECT instance_id, status FROM services.instance_services;")[0]["status"] == "released"
    deleting.run("UPDATE services.findings SET resolved_at = resolved_at - interval '181 days';")
    sweep(deleting)
    assert deleting.run("SELECT id FROM services.findings;") == []
    assert deleting.run("SELECT id FROM services.instance_services;") == []


@pytest.mark.parametrize("body", [{"mode": "destroy"}, {"deadlineSeconds": 0}, {"deadlineSeconds": "20"}, {"more": 1}])
def test_a_request_that_makes_no_sense_is_refused(reporting: World, body: dict[str, Any]) -> None:
    answer = reporting.http.post("/sweep", json=body)
    assert (answer.status_code, reporting.calls()) == (400, [])


def test_no_secret_stands_in_the_answer(deleting: World, capfd: pytest.CaptureFixture[str]) -> None:
    """P41, P43."""
    deleting.create("a1", *ALL_TOOLS)
    secrets = {SERVICES_KEY, *VENDOR_KEYS.values()}
    environment = deleting.environment_of("a1")
    secrets |= {environment[name] for name in ("GATEWAY_TOKEN", "SETUP_PASSWORD", "PRIVATE_WALLET_KEY", "OPENROUTER_API_KEY")}
    for vendor in VENDORS:
        hold(deleting, vendor)
    deleting.simulators["agentmail"].fail("delete_inbox", "refuse", status=403, body=" ".join(secrets))
    sweep(deleting)
    a_minute_passes(deleting)
    text = deleting.http.post("/sweep", json={}).text + deleting.http.post("/sweep", json={}).text
    logged = capfd.readouterr()
    assert "sweep.finished" in logged.err
    assert not [secret for secret in secrets if secret in text + logged.out + logged.err]
