"""One suite for every topology, against Railway's simulator over HTTP: creation, doubt, deployment, listing, removal.

A new topology needs an entry in `TOPOLOGIES` and passes, or it is not finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from infra.local.simulators.railway import ENVIRONMENT_ID, PROJECT_ID, TOKEN, RailwaySimulator
from infra.local.simulators.railway_state import Deployment
from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.remote import Retry
from shared.services import names
from shared.services.hosting.base import Host, Launch, Placement, Seen
from shared.services.hosting.railway import RailwayApi, RailwaySettings
from shared.services.hosting.topology import make_host
from shared.settings import load

NAME = names.make("test", "a1")
LAUNCH = Launch(
    image="ghcr.io/convos/agent@sha256:" + "a" * 64,
    start_command="node agent.js",
    variables={"INSTANCE_ID": SecretStr("a1"), "GATEWAY_TOKEN": SecretStr("s3cret")},
    cpu=4,
    memory_gb=8,
)
TOPOLOGIES: dict[str, dict[str, str]] = {
    "shared": {"RAILWAY_PROJECT_ID": PROJECT_ID, "RAILWAY_ENVIRONMENT_ID": ENVIRONMENT_ID},
}
ANSWERS_THAT_PROVE_NOTHING = ("Not Authorized", "Problem processing request", "operation is already in progress")


@dataclass
class Clock:
    """Time that passes only when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    """A host of one topology on an account of its own."""

    topology: str
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.railway = RailwaySimulator(clock=self.clock, boot_seconds=3)
        self.began = datetime.now(UTC)
        self.host = self.make_host()

    def make_host(self, **overrides: str) -> Host:
        environment = {
            "RAILWAY_API_URL": "http://railway/graphql/v2",
            "RAILWAY_API_TOKEN": TOKEN,
            "RAILWAY_TOPOLOGY": self.topology,
            **TOPOLOGIES[self.topology],
            **overrides,
        }
        settings = load(RailwaySettings, {name: value for name, value in environment.items() if value})
        transport = httpx.WSGITransport(self.railway)
        return make_host(settings, RailwayApi(settings, transport=transport, retry=Retry(attempts=1)), now=self.time)

    def time(self) -> datetime:
        return self.began + timedelta(seconds=self.clock.now - 1000)

    def build(self, name: str = NAME, *, host: Host | None = None, launch: Launch = LAUNCH) -> Placement:
        host = host or self.host
        placement = host.place()
        for step in host.steps:
            placement = host.take(step, name, placement, doubtful=False)
        host.deploy(placement, launch)
        return placement

    def deployments(self, placement: Placement) -> list[Deployment]:
        assert placement.service_id is not None
        return self.railway.deployments_of(placement.service_id)

    def held(self) -> dict[str, int]:
        return {kind: len(things) for kind, things in self.railway.inventory().items()}

    def calls(self) -> int:
        return len(self.railway.operations())


@pytest.fixture(params=TOPOLOGIES)
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


@contextmanager
def counting(stage: Stage) -> Iterator[list[int]]:
    before, spent = stage.calls(), [0]
    yield spent
    spent[0] = stage.calls() - before


def everything(host: Host) -> list[Seen]:
    found: list[Seen] = []
    cursor: str | None = None
    while True:
        page = host.list_page(cursor)
        found.extend(page.seen)
        cursor = page.next_cursor
        if cursor is None:
            return found


# --- creating


def test_a_creation_deploys_once_and_that_deployment_sees_everything(stage: Stage) -> None:
    """P14, P15: one deployment, which knows its variables, its volume and its domain."""
    placement = stage.build()
    (deployment,) = stage.deployments(placement)
    assert deployment.image == LAUNCH.image
    assert deployment.variables["GATEWAY_TOKEN"] == "s3cret"
    assert deployment.variables["INSTANCE_ID"] == "a1"
    assert deployment.variables["PORT"] == "8080"
    assert deployment.variables["RAILWAY_PUBLIC_DOMAIN"] == placement.domain
    assert deployment.variables["RAILWAY_VOLUME_MOUNT_PATH"] == "/data"


def test_a_creation_limits_what_the_machine_may_use(stage: Stage) -> None:
    """P16: without limits a machine is billed for 32 cores and 32 GB."""
    (deployment,) = stage.deployments(stage.build())
    assert deployment.config["deploy"]["limitOverride"] == {"containers": {"cpu": 4, "memoryBytes": 8 * 1024**3}}
    assert deployment.config["deploy"]["startCommand"] == "node agent.js"
    assert deployment.config["deploy"]["sleepApplication"] is False
    assert deployment.config["deploy"]["numReplicas"] == 1


def test_the_image_keeps_its_own_start_command_when_none_is_set(stage: Stage) -> None:
    launch = Launch(image=LAUNCH.image, start_command="", variables={}, cpu=1, memory_gb=1)
    (deployment,) = stage.deployments(stage.build(launch=launch))
    assert "startCommand" not in deployment.config["deploy"]


def test_a_private_image_can_be_pulled_by_its_first_deployment(stage: Stage) -> None:
    stage.railway.behaviour.private_images = ("ghcr.io/convos/",)
    placement = stage.build(host=stage.make_host(GHCR_USERNAME="octocat", GHCR_TOKEN="pull-token"))
    stage.clock.now += 3
    seen = stage.host.read(placement)
    assert seen is not None
    assert seen.deploy_status == "SUCCESS"


def test_registry_credentials_go_with_images_of_that_registry_only(stage: Stage) -> None:
    launch = Launch(image="docker.io/library/nginx:1", start_command="", variables={}, cpu=1, memory_gb=1)
    placement = stage.build(host=stage.make_host(GHCR_USERNAME="octocat", GHCR_TOKEN="pull-token"), launch=launch)
    assert "registryCredentials" not in stage.deployments(placement)[0].config["deploy"]


def test_nothing_is_deployed_before_the_last_step(stage: Stage) -> None:
    """P14: a service with a source starts at once, without its variables."""
    placement = stage.host.place()
    for step in stage.host.steps:
        placement = stage.host.take(step, NAME, placement, doubtful=False)
        if placement.service_id is not None:
            assert stage.deployments(placement) == []


def test_the_place_of_an_instance_costs_no_call(stage: Stage) -> None:
    with counting(stage) as spent:
        assert stage.host.place().topology == stage.topology
    assert spent == [0]


def test_each_step_repeated_in_doubt_adopts_what_is_there(stage: Stage) -> None:
    placement = stage.host.place()
    for step in stage.host.steps:
        before = placement
        placement = stage.host.take(step, NAME, before, doubtful=False)
        held = stage.held()
        assert stage.host.take(step, NAME, before, doubtful=True) == placement
        assert stage.held() == held


def test_a_step_in_doubt_looks_before_it_creates(stage: Stage) -> None:
    placement = stage.host.place()
    for step in stage.host.steps:
        before, placement = placement, stage.host.take(step, NAME, placement, doubtful=False)
        seen = stage.calls()
        stage.host.take(step, NAME, before, doubtful=True)
        assert not [operation for operation in stage.railway.operations()[seen:] if operation.endswith("Create")]


def test_each_step_in_doubt_creates_what_is_not_there(stage: Stage) -> None:
    placement = stage.host.place()
    for step in stage.host.steps:
        placement = stage.host.take(step, NAME, placement, doubtful=True)
    stage.host.deploy(placement, LAUNCH)
    assert len(stage.deployments(placement)) == 1


@pytest.mark.parametrize("mode", ["lose", "fail_after", "refuse", "hang"])
@pytest.mark.parametrize("nth", range(4))
def test_a_failure_at_any_call_and_a_repetition_in_doubt_build_exactly_one(stage: Stage, mode: str, nth: int) -> None:
    """P17: whether the work was done or not, one of each is what remains, and one deployment."""
    reference = Stage(stage.topology)
    reference.build()
    stage.railway.fail("*", mode, status=504, skip=nth)
    host, placement, failures = stage.host, stage.host.place(), 0
    for step in host.steps:
        try:
            placement = host.take(step, NAME, placement, doubtful=False)
        except RemoteUnavailableError:
            failures += 1
            placement = host.take(step, NAME, placement, doubtful=True)
    try:
        host.deploy(placement, LAUNCH)
    except RemoteUnavailableError:
        failures += 1
        host.deploy(placement, LAUNCH)
    assert failures == 1
    assert stage.held() == reference.held()
    assert len(stage.deployments(placement)) == 1
    assert stage.deployments(placement)[0].variables["RAILWAY_PUBLIC_DOMAIN"] == placement.domain


def test_a_name_that_is_taken_was_our_own_earlier_creation(stage: Stage) -> None:
    """An unnoticed success is adopted even by a step that was not told to doubt."""
    first = stage.host.take(stage.host.steps[0], NAME, stage.host.place(), doubtful=False)
    assert stage.host.take(stage.host.steps[0], NAME, stage.host.place(), doubtful=False) == first


def test_a_volume_that_is_not_shown_yet_is_waited_for_and_not_bought_twice(stage: Stage) -> None:
    """P17: a new volume tells seconds later whose it is; a repetition before that must not add another."""
    stage.railway.behaviour.volume_delay_seconds = 28
    placement = stage.host.take("service", NAME, stage.host.place(), doubtful=False)
    stage.railway.fail("volumeCreate", "lose")
    with pytest.raises(RemoteUnavailableError):
        stage.host.take("volume", NAME, placement, doubtful=False)
    with pytest.raises(RemoteUnavailableError) as waiting:
        stage.host.take("volume", NAME, placement, doubtful=True)
    assert waiting.value.retry_after_seconds == 10
    stage.clock.now += 28
    placement = stage.host.take("volume", NAME, placement, doubtful=True)
    assert list(stage.railway.inventory()["volumes"]) == [placement.volume_id]


def test_an_old_volume_of_nobody_holds_nothing_up(stage: Stage) -> None:
    stage.railway.behaviour.volume_delay_seconds = 10_000
    other = stage.host.take("service", names.make("test", "b2"), stage.host.place(), doubtful=False)
    stage.host.take("volume", names.make("test", "b2"), other, doubtful=False)
    stage.clock.now += 600
    placement = stage.host.take("service", NAME, stage.host.place(), doubtful=False)
    assert stage.host.take("volume", NAME, placement, doubtful=True).volume_id is not None


def test_a_service_whose_instance_is_not_shown_yet_is_a_reason_to_come_back(stage: Stage) -> None:
    stage.railway.behaviour.instance_delay_seconds = 60
    placement = stage.host.take("service", NAME, stage.host.place(), doubtful=False)
    placement = stage.host.take("volume", NAME, placement, doubtful=False)
    with pytest.raises(RemoteUnavailableError):
        stage.host.take("domain", NAME, placement, doubtful=False)
    with pytest.raises(RemoteUnavailableError):
        stage.host.deploy(placement, LAUNCH)
    stage.clock.now += 60
    placement = stage.host.take("domain", NAME, placement, doubtful=True)
    stage.host.deploy(placement, LAUNCH)
    assert len(stage.deployments(placement)) == 1


def test_deploying_what_is_gone_is_refused(stage: Stage) -> None:
    placement = stage.build()
    stage.host.remove(NAME, placement)
    with pytest.raises(RemoteRefusedError):
        stage.host.deploy(placement, LAUNCH)


@pytest.mark.parametrize("name", ["convos-agent-" + "x" * 30, "postgres", "convos-agent-test-a1.1234567"])
def test_only_names_of_ours_are_used(stage: Stage, name: str) -> None:
    """P22: at most 32 characters, and such that the sweep can read them back."""
    with pytest.raises(ValueError, match="no name of an instance"):
        stage.host.take("service", name, stage.host.place(), doubtful=False)
    assert stage.railway.operations() == []


def test_names_of_long_ids_fit(stage: Stage) -> None:
    """P22."""
    name = names.make("an-environment-with-a-long-name", "0199c8e2-7f00-7000-8000-0123456789ab")
    stage.build(name)
    assert list(stage.railway.inventory()["services"].values()) == [name]
    assert len(name) <= 32


def test_a_value_that_railway_would_expand_is_refused_before_anything_is_sent(stage: Stage) -> None:
    placement = stage.build()
    launch = Launch(LAUNCH.image, "", {"PROMPT": SecretStr("use ${{Postgres.DATABASE_URL}}")}, cpu=1, memory_gb=1)
    with counting(stage) as spent, pytest.raises(RemoteRefusedError) as refused:
        stage.host.deploy(placement, launch)
    assert spent == [0]
    assert refused.value.details == {"variable": "PROMPT"}
    assert "Postgres" not in refused.value.message


# --- limits of the account


@pytest.mark.parametrize(
    ("operation", "message", "seconds"),
    [
        ("volumeCreate", "Whoa there pal! You're creating volumes too quickly. Try again in a sec", 10),
        ("serviceCreate", "You're creating projects too quickly. This workspace allows 1 project per 45 seconds. Try later", 45),
        ("serviceCreate", "Only one environment can be created per user every 30s", 30),
        ("serviceCreate", "Only one project can be created per user", 30),
    ],
)
def test_a_creation_throttle_inside_an_answer_of_200_is_recognised(
    stage: Stage, operation: str, message: str, seconds: float
) -> None:
    """P21."""
    stage.railway.refuse(operation, message)
    with pytest.raises(RemoteUnavailableError) as throttled:
        stage.build()
    assert throttled.value.code == "throttled"
    assert throttled.value.retry_after_seconds == seconds
    assert message not in throttled.value.message


def test_a_429_of_the_edge_that_is_not_json_is_a_throttle(stage: Stage) -> None:
    """P21."""
    stage.railway.edge_refuses("serviceCreate")
    with pytest.raises(RemoteUnavailableError) as throttled:
        stage.build()
    assert throttled.value.code == "throttled"
    assert throttled.value.retry_after_seconds == 30


def test_a_spent_budget_says_when_it_returns(stage: Stage) -> None:
    stage.railway.behaviour.hourly_limit = 0
    with pytest.raises(RemoteUnavailableError) as throttled:
        stage.host.list_page(None)
    assert throttled.value.code == "throttled"
    assert throttled.value.retry_after_seconds == pytest.approx(3600, abs=2)


@pytest.mark.parametrize("kind", ["services", "volumes"])
def test_a_limit_of_the_plan_is_told_by_name(stage: Stage, kind: str) -> None:
    stage.railway.behaviour.limits[kind] = 0
    with pytest.raises(RemoteRefusedError) as refused:
        stage.build()
    assert refused.value.code == "provider_limit"
    assert refused.value.details == {"limit": kind}


# --- deploying again


def test_the_same_launch_again_deploys_nothing(stage: Stage) -> None:
    placement = stage.build()
    stage.host.deploy(placement, LAUNCH)
    assert len(stage.deployments(placement)) == 1


def test_an_upgrade_deploys_the_new_digest_with_every_variable(stage: Stage) -> None:
    """P40."""
    placement = stage.build()
    newer = Launch("ghcr.io/convos/agent@sha256:" + "b" * 64, LAUNCH.start_command, LAUNCH.variables, cpu=4, memory_gb=8)
    stage.host.deploy(placement, newer, force=True)
    first, second = stage.deployments(placement)
    assert second.image == newer.image
    assert second.config["deploy"] == first.config["deploy"]
    assert second.variables.items() >= first.variables.items()


def test_a_forced_deployment_starts_although_nothing_differs(stage: Stage) -> None:
    """P40, also when a forced one went before it."""
    placement = stage.build()
    for _ in range(2):
        stage.clock.now += 1
        stage.host.deploy(placement, LAUNCH, force=True)
    assert len(stage.deployments(placement)) == 3


# --- watching


def test_a_deployment_is_followed_until_it_is_up(stage: Stage) -> None:
    placement = stage.build()
    statuses: list[str | None] = []
    for _ in range(4):
        seen = stage.host.read(placement)
        assert seen is not None
        statuses.append(seen.deploy_status)
        stage.clock.now += 1
    assert statuses == ["INITIALIZING", "DEPLOYING", "DEPLOYING", "SUCCESS"]
    assert seen is not None
    assert seen.name == NAME
    assert seen.domain == placement.domain
    assert seen.image == LAUNCH.image
    assert seen.deployment_id == stage.deployments(placement)[0].id


def test_reading_and_listing_agree(stage: Stage) -> None:
    placement = stage.build()
    assert everything(stage.host) == [stage.host.read(placement)]


def test_what_does_not_exist_reads_as_nothing(stage: Stage) -> None:
    placement = stage.build()
    stage.host.remove(NAME, placement)
    assert stage.host.read(placement) is None


@pytest.mark.parametrize(
    "message", ["Not Authorized", "Problem processing request", "Project Token not found", "Environment not found"]
)
def test_what_cannot_be_told_does_not_read_as_nothing(stage: Stage, message: str) -> None:
    """P33: unknown is not gone."""
    placement = stage.build()
    stage.railway.refuse("serviceInstance", message)
    with pytest.raises(RemoteError):
        stage.host.read(placement)


def test_a_listing_is_paged_to_its_end_and_costs_one_call_a_page(stage: Stage) -> None:
    """P34, P35: 401 instances are three pages."""
    for number in range(401):
        stage.railway.add_service(names.make("test", f"i{number}"), image=LAUNCH.image, status="SUCCESS")
    stage.railway.add_service("postgres", image="postgres:18", status="SUCCESS")
    with counting(stage) as spent:
        found = everything(stage.host)
    assert spent == [3]
    assert len({seen.name for seen in found}) == 401
    assert {seen.deploy_status for seen in found} == {"SUCCESS"}


def test_a_listing_shows_only_services_under_names_of_ours(stage: Stage) -> None:
    """P26: a database in the same project is nobody's instance; another environment of ours is told by its name."""
    for name in ("postgres", "convos-agent", "convos-agent-", "my-convos-agent-test-a1"):
        stage.railway.add_service(name)
    foreign = names.make("staging", "z9")
    stage.railway.add_service(foreign)
    stage.build()
    assert {seen.name for seen in everything(stage.host)} == {NAME, foreign}


def test_a_listing_tells_the_budget_that_is_left(stage: Stage) -> None:
    stage.railway.behaviour.hourly_limit = 1000
    first = stage.host.list_page(None).budget
    second = stage.host.list_page(None).budget
    assert (first.hourly_limit, second.hourly_limit) == (1000, 1000)
    assert first.remaining is not None
    assert second.remaining == first.remaining - 1


@pytest.mark.parametrize("cut", ["next_fails", "half", "stuck"])
def test_a_listing_cut_short_is_an_error_and_never_an_end(stage: Stage, cut: str) -> None:
    """P35."""
    for number in range(4):
        stage.railway.add_service(names.make("test", f"i{number}"))
    stage.railway.behaviour.cut = cut
    with pytest.raises(RemoteError):
        everything(stage.host)


# --- removing


def test_a_removal_leaves_nothing(stage: Stage) -> None:
    empty = stage.held()
    placement = stage.build()
    stage.host.remove(NAME, placement)
    assert stage.held() == empty
    assert {deployment.status for deployment in stage.deployments(placement)} == {"REMOVED"}


def test_a_removal_leaves_others_alone(stage: Stage) -> None:
    """P26."""
    other = stage.build(names.make("test", "b2"))
    alone = stage.railway.inventory()
    stage.host.remove(NAME, stage.build())
    assert stage.railway.inventory() == alone
    assert stage.host.read(other) is not None


def test_a_second_removal_is_quiet(stage: Stage) -> None:
    """P30."""
    empty = stage.held()
    placement = stage.build()
    stage.host.remove(NAME, placement)
    stage.host.remove(NAME, placement)
    stage.host.remove(NAME, stage.host.place())
    assert stage.held() == empty


def test_what_was_created_without_an_answer_is_removed_by_name(stage: Stage) -> None:
    """P17: ids that were lost leave nothing behind."""
    empty = stage.held()
    stage.build()
    stage.host.remove(NAME, stage.host.place())
    assert stage.held() == empty


@pytest.mark.parametrize("steps", range(4))
def test_an_unfinished_creation_is_removed_whatever_step_it_reached(stage: Stage, steps: int) -> None:
    """P17: the last step's answer is lost, so its id is unknown."""
    empty = stage.held()
    placement = before = stage.host.place()
    for step in stage.host.steps[:steps]:
        before, placement = placement, stage.host.take(step, NAME, placement, doubtful=False)
    stage.host.remove(NAME, before)
    assert stage.held() == empty


def test_a_removal_waits_for_a_volume_that_is_not_shown_yet(stage: Stage) -> None:
    """P17, P25."""
    empty = stage.held()
    stage.railway.behaviour.volume_delay_seconds = 28
    placement = stage.host.take("service", NAME, stage.host.place(), doubtful=False)
    stage.host.take("volume", NAME, placement, doubtful=False)
    with pytest.raises(RemoteUnavailableError):
        stage.host.remove(NAME, placement)
    stage.clock.now += 28
    stage.host.remove(NAME, placement)
    assert stage.held() == empty


def test_every_volume_of_an_instance_goes_with_it(stage: Stage) -> None:
    empty = stage.held()
    placement = stage.build()
    stage.host.take("volume", NAME, placement, doubtful=False)
    assert stage.held()["volumes"] == 2
    stage.host.remove(NAME, placement)
    assert stage.held() == empty


@pytest.mark.parametrize("operation", ["serviceDelete", "volumeDelete"])
@pytest.mark.parametrize("message", ANSWERS_THAT_PROVE_NOTHING)
def test_a_refused_deletion_is_not_believed(stage: Stage, operation: str, message: str) -> None:
    """P25: the thing is still there, so the removal fails, and the next one finishes it."""
    empty = stage.held()
    placement = stage.build()
    stage.railway.refuse(operation, message)
    with pytest.raises(RemoteError):
        stage.host.remove(NAME, placement)
    assert stage.held() != empty
    stage.host.remove(NAME, placement)
    assert stage.held() == empty


@pytest.mark.parametrize("operation", ["serviceDelete", "volumeDelete"])
def test_a_deletion_that_says_false_is_not_believed(stage: Stage, operation: str) -> None:
    """P25."""
    placement = stage.build()
    stage.railway.fail(operation, "refuse", status=200, body={"data": {"answer": False}})
    with pytest.raises(RemoteError):
        stage.host.remove(NAME, placement)


def test_a_throttled_deletion_spends_no_further_call(stage: Stage) -> None:
    """P21: nothing was done, so there is nothing to look up."""
    placement = stage.build()
    stage.railway.edge_refuses("serviceDelete")
    with pytest.raises(RemoteUnavailableError) as throttled:
        stage.host.remove(NAME, placement)
    assert throttled.value.code == "throttled"
    assert stage.railway.operations()[-1] == "serviceDelete"


@pytest.mark.parametrize("operation", ["serviceDelete", "volumeDelete"])
@pytest.mark.parametrize("mode", ["lose", "fail_after"])
def test_a_deletion_that_happened_without_an_answer_is_confirmed_by_looking(stage: Stage, operation: str, mode: str) -> None:
    """P25."""
    empty = stage.held()
    placement = stage.build()
    stage.railway.fail(operation, mode, status=504)
    stage.host.remove(NAME, placement)
    assert stage.held() == empty


@pytest.mark.parametrize("message", [*ANSWERS_THAT_PROVE_NOTHING, None])
def test_what_is_gone_counts_as_gone_whatever_railway_says_of_it(stage: Stage, message: str | None) -> None:
    """P25: `Not Authorized` is also what Railway answers for an id that was deleted."""
    placement = stage.build()
    stage.host.remove(NAME, placement)
    stage.railway.behaviour.gone_message = message
    stage.host.remove(NAME, placement)


def test_a_token_that_is_refused_removes_nothing_and_says_so(stage: Stage) -> None:
    """P25: `Not Authorized` of everything is no confirmation of anything."""
    placement = stage.build()
    stage.railway.tokens = ("another",)
    with pytest.raises(RemoteRefusedError):
        stage.host.remove(NAME, placement)
    with pytest.raises(RemoteRefusedError):
        stage.host.read(placement)


@pytest.mark.parametrize("nth", range(8))
@pytest.mark.parametrize("mode", ["lose", "refuse", "hang"])
def test_a_removal_interrupted_anywhere_is_finished_by_the_next(stage: Stage, nth: int, mode: str) -> None:
    empty = stage.held()
    stage.build()
    stage.railway.fail("*", mode, skip=nth)
    with suppress(RemoteError):
        stage.host.remove(NAME, stage.host.place())
    stage.railway.heal()
    stage.host.remove(NAME, stage.host.place())
    assert stage.held() == empty


# --- what failures say


@pytest.mark.parametrize("message", ["A secret-quote of the vendor", "Not Authorized: secret-quote", "secret-quote not found"])
def test_no_failure_quotes_the_vendor_or_a_secret(stage: Stage, message: str) -> None:
    attempts: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("serviceCreate", lambda: stage.host.take("service", NAME, stage.host.place(), doubtful=False)),
        ("environment", lambda: stage.host.list_page(None)),
    )
    for operation, attempt in attempts:
        stage.railway.refuse(operation, message)
        with pytest.raises(RemoteError) as failure:
            attempt()
        told = f"{failure.value} {failure.value.message} {failure.value.details}"
        assert "secret-quote" not in told
        assert TOKEN not in told
