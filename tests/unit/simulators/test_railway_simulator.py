"""Railway's stand-in refuses what Railway refuses, and its deployments live as Railway's do."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from infra.local.simulators.railway import ENVIRONMENT_ID, PROJECT_ID, TOKEN, RailwaySimulator

IMAGE = "ghcr.io/convos/agent@sha256:" + "a" * 64
COMMIT = "mutation($e: String!, $p: EnvironmentConfig) { environmentPatchCommit(environmentId: $e, patch: $p) }"
UPSERT = "mutation($i: VariableCollectionUpsertInput!) { variableCollectionUpsert(input: $i) }"
UPDATE = """mutation($s: String!, $e: String!, $i: ServiceInstanceUpdateInput!) {
  serviceInstanceUpdate(serviceId: $s, environmentId: $e, input: $i) }"""
CREATE = "mutation($i: ServiceCreateInput!) { serviceCreate(input: $i) { id } }"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Machines:
    """Notes what it is told to do."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str]] = []
        self.environments: dict[str, dict[str, str]] = {}
        self.asleep: set[str] = set()

    def start(self, domain: str, environment: dict[str, str], image: str, *, volume: bool) -> None:
        self.log.append(("start", domain))
        self.environments[domain] = environment

    def stop(self, domain: str) -> None:
        self.log.append(("stop", domain))

    def sleep(self, domain: str) -> None:
        self.asleep.add(domain)

    def is_asleep(self, domain: str) -> bool:
        return domain in self.asleep


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def machines() -> Machines:
    return Machines()


@pytest.fixture
def railway(clock: Clock, machines: Machines) -> RailwaySimulator:
    return RailwaySimulator(clock=clock, machines=machines, boot_seconds=3)


def send(
    railway: RailwaySimulator, query: str, *, token: str = TOKEN, source: str = "?source=tests", **variables: Any
) -> httpx.Response:
    with httpx.Client(transport=httpx.WSGITransport(railway), base_url="http://railway") as client:
        return client.post(
            f"/graphql/v2{source}",
            json={"query": query, "variables": variables},
            headers={"Authorization": f"Bearer {token}"},
        )


def data(railway: RailwaySimulator, query: str, **variables: Any) -> Any:
    body = send(railway, query, **variables).json()
    assert "errors" not in body, body
    return next(iter(body["data"].values()))


def message(railway: RailwaySimulator, query: str, *, token: str = TOKEN, **variables: Any) -> str:
    response = send(railway, query, token=token, **variables)
    assert response.status_code == 200
    text: str = response.json()["errors"][0]["message"]
    return text


def commit(railway: RailwaySimulator, service_id: str, **change: Any) -> None:
    data(railway, COMMIT, e=ENVIRONMENT_ID, p={"services": {service_id: change}})


def statuses(railway: RailwaySimulator, service_id: str) -> list[str]:
    railway.poke()
    return [deployment.status for deployment in railway.deployments_of(service_id)]


# --- what is refused


@pytest.mark.parametrize(
    "query",
    [
        "query {",
        "query { project(id: 7, name: 8) { id } }",
        'query { project(id: "p") { id secret } }',
        'mutation { serviceCreate(input: {projectId: "p", startCommand: "x"}) { id } }',
        'query { project(id: "p") }',
    ],
)
def test_a_document_outside_of_the_schema_is_refused_with_400(railway: RailwaySimulator, query: str) -> None:
    response = send(railway, query)
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["code"].startswith("GRAPHQL_")


def test_a_variable_outside_of_the_schema_is_refused_with_400(railway: RailwaySimulator) -> None:
    assert send(railway, CREATE, i={"projectId": PROJECT_ID, "limits": 1}).status_code == 400
    assert send(railway, CREATE, i={"name": "x"}).status_code == 400
    assert railway.inventory()["services"] == {}


@pytest.mark.parametrize(
    "change", [{"sorce": {}}, {"deploy": {"limits": 1}}, {"variables": {"A": "1"}}, {"deploy": {"numReplicas": "1"}}]
)
def test_a_patch_of_another_shape_is_refused(railway: RailwaySimulator, change: dict[str, Any]) -> None:
    service_id = railway.add_service("a")
    response = send(railway, COMMIT, e=ENVIRONMENT_ID, p={"services": {service_id: {"source": {"image": IMAGE}, **change}}})
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
    assert railway.deployments_of(service_id) == []


def test_a_wrong_token_is_told_inside_an_answer_of_200(railway: RailwaySimulator) -> None:
    assert message(railway, CREATE, token="wrong", i={"projectId": PROJECT_ID}) == "Not Authorized"


def test_a_service_name_is_unique_in_its_project(railway: RailwaySimulator) -> None:
    railway.add_service("a")
    assert message(railway, CREATE, i={"projectId": PROJECT_ID, "name": "a"}) == (
        'A service named "a" already exists in this project'
    )


def test_callers_that_do_not_name_themselves_meet_the_edge(railway: RailwaySimulator, clock: Clock) -> None:
    query = f'query {{ project(id: "{PROJECT_ID}") {{ id }} }}'
    answers = [send(railway, query, source="").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]
    assert [send(railway, query).status_code for _ in range(11)] == [200] * 11
    clock.now += 1
    assert send(railway, query, source="").status_code == 200


def test_the_hourly_budget_runs_out_and_returns(railway: RailwaySimulator, clock: Clock) -> None:
    railway.behaviour.hourly_limit = 2
    query = f'query {{ project(id: "{PROJECT_ID}") {{ id }} }}'
    remaining = [send(railway, query).headers["X-RateLimit-Remaining"] for _ in range(2)]
    refused = send(railway, query)
    assert remaining == ["1", "0"]
    assert refused.status_code == 429
    clock.now += int(refused.headers["Retry-After"])
    assert send(railway, query).status_code == 200


def test_creations_are_throttled_when_asked_for(railway: RailwaySimulator, clock: Clock) -> None:
    railway.behaviour.throttles["projectCreate"] = 30
    create = 'mutation { projectCreate(input: {name: "p"}) { id primaryEnvironmentId } }'
    assert data(railway, create)["primaryEnvironmentId"]
    assert "creating projects too quickly" in message(railway, create)
    clock.now += 30
    assert data(railway, create)


# --- deployments


def test_a_service_without_a_source_deploys_nothing(railway: RailwaySimulator) -> None:
    service_id = data(railway, CREATE, i={"projectId": PROJECT_ID, "name": "a"})["id"]
    assert statuses(railway, service_id) == []


def test_a_service_with_a_source_deploys_at_once(railway: RailwaySimulator) -> None:
    service_id = data(railway, CREATE, i={"projectId": PROJECT_ID, "name": "a", "source": {"image": IMAGE}})["id"]
    assert statuses(railway, service_id) == ["INITIALIZING"]


def test_variables_written_after_the_image_miss_the_first_deployment(railway: RailwaySimulator) -> None:
    """P14: the race that cost one instance in ten its variables."""
    service_id = railway.add_service("a")
    data(railway, UPDATE, s=service_id, e=ENVIRONMENT_ID, i={"source": {"image": IMAGE}})
    upsert = {"projectId": PROJECT_ID, "environmentId": ENVIRONMENT_ID, "serviceId": service_id, "variables": {"A": "1"}}
    data(railway, UPSERT, i=upsert)
    first, second = railway.deployments_of(service_id)
    assert "A" not in first.variables
    assert second.variables["A"] == "1"


def test_variables_can_be_written_without_a_deployment(railway: RailwaySimulator) -> None:
    service_id = railway.add_service("a", image=IMAGE)
    upsert = {"projectId": PROJECT_ID, "environmentId": ENVIRONMENT_ID, "serviceId": service_id, "variables": {"A": "1"}}
    data(railway, UPSERT, i={**upsert, "skipDeploys": True})
    assert len(railway.deployments_of(service_id)) == 1


def test_a_commit_deploys_once_if_it_changes_something_and_else_never(railway: RailwaySimulator) -> None:
    service_id = railway.add_service("a")
    change = {"source": {"image": IMAGE}, "variables": {"A": {"value": "1"}}, "deploy": {"startCommand": "x"}}
    for _ in range(3):
        commit(railway, service_id, **change)
    assert len(railway.deployments_of(service_id)) == 1
    commit(railway, service_id, variables={"A": {"value": "2"}})
    assert [deployment.variables["A"] for deployment in railway.deployments_of(service_id)] == ["1", "2"]


def test_a_reference_inside_a_value_is_expanded(railway: RailwaySimulator) -> None:
    service_id = railway.add_service("a")
    commit(railway, service_id, source={"image": IMAGE}, variables={"A": {"value": "at ${{RAILWAY_PUBLIC_DOMAIN}}"}})
    (domain,) = railway.inventory()["domains"]
    assert railway.deployments_of(service_id)[0].variables["A"] == f"at {domain}"


def test_a_new_deployment_replaces_the_old_one_when_it_is_up(railway: RailwaySimulator, clock: Clock) -> None:
    service_id = railway.add_service("a", image=IMAGE)
    clock.now += 3
    assert statuses(railway, service_id) == ["SUCCESS"]
    data(railway, f'mutation {{ serviceInstanceRedeploy(serviceId: "{service_id}", environmentId: "{ENVIRONMENT_ID}") }}')
    assert statuses(railway, service_id) == ["SUCCESS", "INITIALIZING"]
    clock.now += 1
    assert statuses(railway, service_id) == ["SUCCESS", "DEPLOYING"]
    clock.now += 2
    assert statuses(railway, service_id) == ["REMOVED", "SUCCESS"]


@pytest.mark.parametrize("image", ["ghcr.io/convos/missing:1", "ghcr.io/convos/private/agent:1"])
def test_an_image_that_cannot_be_pulled_fails_and_the_old_deployment_stays(
    railway: RailwaySimulator, clock: Clock, image: str
) -> None:
    """P20."""
    railway.behaviour.private_images = ("ghcr.io/convos/private/",)
    service_id = railway.add_service("a", image=IMAGE, status="SUCCESS")
    commit(railway, service_id, source={"image": image})
    clock.now += 3
    assert statuses(railway, service_id) == ["SUCCESS", "FAILED"]


def test_only_known_images_come_up_when_they_are_named(railway: RailwaySimulator, clock: Clock) -> None:
    railway.behaviour.known_images = {IMAGE}
    known, unknown = railway.add_service("a", image=IMAGE), railway.add_service("b", image="ghcr.io/convos/other:1")
    clock.now += 3
    assert (statuses(railway, known), statuses(railway, unknown)) == (["SUCCESS"], ["FAILED"])


# --- machines


def test_a_machine_runs_from_success_to_the_end_of_its_service(
    railway: RailwaySimulator, clock: Clock, machines: Machines
) -> None:
    service_id = railway.add_service("a")
    (domain,) = railway.inventory()["domains"]
    commit(railway, service_id, source={"image": IMAGE}, variables={"A": {"value": "1"}})
    railway.poke()
    assert machines.log == []
    clock.now += 3
    railway.poke()
    assert machines.environments[domain]["A"] == "1"
    assert machines.environments[domain]["RAILWAY_PUBLIC_DOMAIN"] == domain
    data(railway, f'mutation {{ serviceDelete(id: "{service_id}") }}')
    assert machines.log == [("start", domain), ("stop", domain)]


def test_a_replaced_machine_is_started_anew_and_not_stopped_first(
    railway: RailwaySimulator, clock: Clock, machines: Machines
) -> None:
    """P40: the volume's content survives an upgrade."""
    service_id = railway.add_service("a", image=IMAGE, status="SUCCESS")
    commit(railway, service_id, variables={"A": {"value": "1"}})
    clock.now += 3
    railway.poke()
    assert [action for action, _ in machines.log] == ["start", "start"]


def test_a_crash_stops_the_machine(railway: RailwaySimulator, machines: Machines) -> None:
    service_id = railway.add_service("a", image=IMAGE, status="SUCCESS")
    railway.crash(service_id)
    assert statuses(railway, service_id) == ["CRASHED"]
    assert [action for action, _ in machines.log] == ["start", "stop"]


def test_a_request_wakes_what_sleeps_without_starting_it_anew(railway: RailwaySimulator, machines: Machines) -> None:
    """P32."""
    service_id = railway.add_service("a", image=IMAGE, status="SUCCESS")
    railway.set_deploy_status(service_id, "SLEEPING")
    assert statuses(railway, service_id) == ["SLEEPING"]
    machines.asleep.clear()
    assert statuses(railway, service_id) == ["SUCCESS"]
    assert [action for action, _ in machines.log] == ["start"]


# --- projects and volumes


def test_a_deleted_project_takes_everything_with_it_and_stays_visible_to_who_asks(
    railway: RailwaySimulator, machines: Machines
) -> None:
    railway.add_service("a", image=IMAGE, status="SUCCESS")
    data(railway, f'mutation {{ projectDelete(id: "{PROJECT_ID}") }}')
    assert railway.inventory() == {"services": {}, "volumes": {}, "projects": {}, "domains": {}}
    listing = "query($d: Boolean) { projects(includeDeleted: $d) { edges { node { id deletedAt } } } }"
    assert data(railway, listing)["edges"] == []
    assert data(railway, listing, d=True)["edges"][0]["node"]["deletedAt"] is not None
    assert machines.log[-1][0] == "stop"


def test_a_deleted_volume_is_listed_as_pending_for_two_days(railway: RailwaySimulator, clock: Clock) -> None:
    wanted = {"projectId": PROJECT_ID, "environmentId": ENVIRONMENT_ID, "mountPath": "/data"}
    volume_id = data(railway, "mutation($i: VolumeCreateInput!) { volumeCreate(input: $i) { id } }", i=wanted)["id"]
    delete = f'mutation {{ volumeDelete(volumeId: "{volume_id}") }}'
    listing = f"""query {{ environment(id: "{ENVIRONMENT_ID}") {{
      volumeInstances {{ edges {{ node {{ isPendingDeletion }} }} }} }} }}"""
    assert data(railway, delete) is True
    assert railway.inventory()["volumes"] == {}
    assert data(railway, listing)["volumeInstances"]["edges"] == [{"node": {"isPendingDeletion": True}}]
    assert message(railway, delete) == "Volume not found"
    clock.now += 48 * 3600
    assert data(railway, listing)["volumeInstances"]["edges"] == []


def test_a_call_is_recorded_under_its_first_root_field(railway: RailwaySimulator) -> None:
    two = f'query {{ a: project(id: "{PROJECT_ID}") {{ id }} b: service(id: "x") {{ id }} }}'
    send(railway, two)
    assert railway.operations() == ["project"]
