"""Railway's client: what it sends, what it makes of answers, and which settings it takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from graphql import build_schema, parse, validate

from infra.local.simulators.railway import ENVIRONMENT_ID, PROJECT_ID, RailwaySimulator
from infra.local.simulators.railway_resolvers import SDL
from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError, SettingsError
from shared.remote import Retry
from shared.services.hosting.base import Budget
from shared.services.hosting.documents import DOCUMENTS
from shared.services.hosting.railway import RailwayApi, RailwaySettings
from shared.services.hosting.refusals import Problem, problem, says_gone
from shared.services.hosting.topology import SharedProject, make_host
from shared.settings import load

ENVIRONMENT = {
    "RAILWAY_API_TOKEN": "first-token,second-token",
    "RAILWAY_PROJECT_ID": "project",
    "RAILWAY_ENVIRONMENT_ID": "environment",
}
Handler = Callable[[httpx.Request], httpx.Response]


def settings(**changes: str) -> RailwaySettings:
    return load(RailwaySettings, {**ENVIRONMENT, **changes})


def api(handler: Handler) -> RailwayApi:
    return RailwayApi(settings(), transport=httpx.MockTransport(handler), retry=Retry(first_pause_seconds=0.001))


def answering(data: Any) -> tuple[Handler, list[httpx.Request]]:
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"data": {"answer": data}})

    return handle, requests


def failing(message: str, code: str = "INTERNAL_SERVER_ERROR") -> Handler:
    body = {"errors": [{"message": message, "extensions": {"code": code}, "traceId": "1"}], "data": None}
    return lambda request: httpx.Response(200, json=body)


def failure_of(handler: Handler) -> RemoteError:
    with pytest.raises(RemoteError) as failure:
        api(handler).create_service("project", "environment", name="name")
    return failure.value


# --- what is sent


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_document_is_valid_against_the_schema(name: str) -> None:
    assert validate(build_schema(SDL), parse(DOCUMENTS[name])) == []


def test_a_call_names_us_and_goes_to_the_exact_address() -> None:
    handler, requests = answering({"id": "s"})
    api(handler).create_service("project", "environment", name="name")
    assert str(requests[0].url) == "https://backboard.railway.com/graphql/v2?source=convos-agents"
    assert requests[0].headers["User-Agent"] == "convos-agents"


def test_tokens_are_used_in_turn() -> None:
    handler, requests = answering({"id": "s"})
    client = api(handler)
    for _ in range(3):
        client.create_service("project", "environment", name="name")
    tokens = [request.headers["Authorization"] for request in requests]
    assert tokens == ["Bearer first-token", "Bearer second-token", "Bearer first-token"]


def test_an_optional_argument_without_value_is_left_out() -> None:
    """Null and absent differ: null unsets the stored value."""
    handler, requests = answering({"serviceInstances": {"edges": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}})
    api(handler).instances_page("environment", None)
    assert json.loads(requests[0].content)["variables"] == {"environmentId": "environment", "first": 200}


def test_a_query_is_repeated_and_a_mutation_is_not() -> None:
    asked: list[str] = []

    def unavailable(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["query"].split()[0])
        return httpx.Response(503)

    client = api(unavailable)
    with pytest.raises(RemoteUnavailableError):
        client.services("project")
    with pytest.raises(RemoteUnavailableError):
        client.delete_service("service")
    assert asked == ["query", "query", "query", "mutation"]


# --- what answers mean


@pytest.mark.parametrize(
    ("message", "meaning", "kind"),
    [
        ("You're creating projects too quickly. Try again shortly.", Problem.THROTTLED, RemoteUnavailableError),
        ("This workspace allows 1 project per 30 seconds", Problem.THROTTLED, RemoteUnavailableError),
        ("Free plan resource provision limit exceeded. Please upgrade!", Problem.PROVIDER_LIMIT, RemoteRefusedError),
        ("Not Authorized", Problem.NOT_AUTHORIZED, RemoteRefusedError),
        ("Project Token not found", Problem.NOT_AUTHORIZED, RemoteRefusedError),
        ("Two Factor Authentication Required", Problem.NOT_AUTHORIZED, RemoteRefusedError),
        ("ServiceInstance not found", Problem.NOT_FOUND, RemoteRefusedError),
        ('A service named "x" already exists in this project', Problem.ALREADY_EXISTS, RemoteRefusedError),
        ("operation is already in progress", Problem.IN_PROGRESS, RemoteUnavailableError),
        ("Failed to create service domain, please try again", Problem.IN_PROGRESS, RemoteUnavailableError),
        ("Problem processing request", Problem.UNCLEAR, RemoteUnavailableError),
        ("Something new", Problem.UNCLEAR, RemoteUnavailableError),
    ],
)
def test_an_error_inside_an_answer_of_200_is_told_by_its_message(message: str, meaning: Problem, kind: type[RemoteError]) -> None:
    """P21."""
    failure = failure_of(failing(message))
    assert type(failure) is kind
    assert problem(failure) is meaning
    assert message not in failure.message


def test_an_error_with_data_beside_it_is_still_an_error() -> None:
    body = {"data": {"answer": {"id": "s"}}, "errors": [{"message": "Not Authorized"}]}
    assert problem(failure_of(lambda request: httpx.Response(200, json=body))) is Problem.NOT_AUTHORIZED


def test_input_that_railway_rejects_is_not_worth_repeating() -> None:
    assert problem(failure_of(failing("Name is too long", "BAD_USER_INPUT"))) is Problem.INVALID
    assert problem(failure_of(lambda request: httpx.Response(400, json={"errors": [{"message": "no"}]}))) is Problem.INVALID


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_refused_by_status_is_told_like_one_refused_by_message(status: int) -> None:
    failure = failure_of(lambda request: httpx.Response(status, text="no"))
    assert type(failure) is RemoteRefusedError
    assert problem(failure) is Problem.NOT_AUTHORIZED


@pytest.mark.parametrize("body", ["error code: 1015", "<html>Access denied</html>", "{}"])
def test_429_is_a_throttle_whatever_its_body(body: str) -> None:
    failure = failure_of(lambda request: httpx.Response(429, text=body))
    assert failure.code == "throttled"
    assert failure.retry_after_seconds == 30


def test_429_with_a_time_says_that_time() -> None:
    failure = failure_of(lambda request: httpx.Response(429, headers={"Retry-After": "77"}))
    assert failure.retry_after_seconds == 77


@pytest.mark.parametrize("body", ["<html></html>", "", "[]", '{"data": null}', '{"data": {"answer": {"id": 7}}}'])
def test_an_answer_that_cannot_be_read_is_an_error(body: str) -> None:
    """P38."""
    failure = failure_of(lambda request: httpx.Response(200, text=body))
    assert problem(failure) is None


def test_gone_is_said_of_one_thing_only() -> None:
    """P33: a wrong environment in the settings must not look like the end of every instance."""
    assert says_gone(failure_of(failing("ServiceInstance not found")), "ServiceInstance")
    assert not says_gone(failure_of(failing("Environment not found")), "ServiceInstance")
    assert not says_gone(failure_of(failing("Not Authorized")), "ServiceInstance")
    assert not says_gone(failure_of(lambda request: httpx.Response(404, text="Service not found")), "Service")


def test_a_network_failure_means_nothing() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("silent")

    assert problem(failure_of(silent)) is None


def test_the_budget_of_the_last_answer_is_kept() -> None:
    limits = iter(({"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "7"}, {}))
    client = api(lambda request: httpx.Response(200, json={"data": {"answer": {"id": "s"}}}, headers=next(limits)))
    assert client.budget == Budget(hourly_limit=None, remaining=None)
    for _ in range(2):
        client.create_service("project", "environment", name="name")
    assert client.budget == Budget(hourly_limit=1000, remaining=7)


def test_a_listing_that_never_ends_is_an_error() -> None:
    """P35."""
    page = {"services": {"edges": [], "pageInfo": {"hasNextPage": True, "endCursor": "same"}}}
    handler, requests = answering(page)
    with pytest.raises(RemoteError):
        api(handler).services("project")
    assert len(requests) == 2


# --- settings


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"RAILWAY_API_TOKEN": ""}, ["RAILWAY_API_TOKEN"]),
        ({"RAILWAY_API_TOKEN": "a,a"}, ["RAILWAY_API_TOKEN", "twice"]),
        ({"RAILWAY_API_TOKEN": ","}, ["RAILWAY_API_TOKEN"]),
        ({"RAILWAY_PROJECT_ID": ""}, ["RAILWAY_PROJECT_ID"]),
        ({"RAILWAY_ENVIRONMENT_ID": ""}, ["RAILWAY_ENVIRONMENT_ID", "RAILWAY_ENVIRONMENT_NAME"]),
        ({"RAILWAY_ENVIRONMENT_NAME": "production"}, ["RAILWAY_ENVIRONMENT_ID", "RAILWAY_ENVIRONMENT_NAME", "both"]),
        ({"RAILWAY_TOPOLOGY": "flat"}, ["RAILWAY_TOPOLOGY"]),
        ({"INSTANCE_VOLUME_MOUNT": "data"}, ["INSTANCE_VOLUME_MOUNT"]),
        ({"GHCR_TOKEN": "t"}, ["GHCR_USERNAME", "GHCR_TOKEN"]),
    ],
)
def test_a_missing_malformed_or_doubled_setting_is_named(changes: dict[str, str], names: list[str]) -> None:
    """P18."""
    with pytest.raises(SettingsError) as refused:
        settings(**changes)
    for name in names:
        assert name in refused.value.message


def test_tokens_do_not_print() -> None:
    """P43."""
    assert "first-token" not in repr(settings())
    assert "second-token" not in str(settings().model_dump())


def test_an_environment_is_found_by_its_name_once() -> None:
    simulator = RailwaySimulator(tokens=("first-token",))
    changes = {"RAILWAY_API_TOKEN": "first-token", "RAILWAY_PROJECT_ID": PROJECT_ID, "RAILWAY_ENVIRONMENT_ID": ""}
    named = settings(**changes, RAILWAY_ENVIRONMENT_NAME="production")
    host = SharedProject(named, RailwayApi(named, transport=httpx.WSGITransport(simulator)))
    assert host.place().environment_id is None
    for _ in range(2):
        host.list_page(None)
    assert simulator.operations() == ["environments", "environment", "environment"]
    assert host.place().environment_id == ENVIRONMENT_ID


def test_an_environment_that_does_not_exist_is_a_wrong_setting() -> None:
    simulator = RailwaySimulator(tokens=("first-token",))
    changes = {"RAILWAY_API_TOKEN": "first-token", "RAILWAY_PROJECT_ID": PROJECT_ID, "RAILWAY_ENVIRONMENT_ID": ""}
    named = settings(**changes, RAILWAY_ENVIRONMENT_NAME="staging")
    with pytest.raises(SettingsError, match="RAILWAY_ENVIRONMENT_NAME"):
        SharedProject(named, RailwayApi(named, transport=httpx.WSGITransport(simulator))).list_page(None)


def test_a_topology_that_is_not_built_is_refused_by_name() -> None:
    sharded = settings(RAILWAY_TOPOLOGY="sharded")
    with pytest.raises(SettingsError, match="RAILWAY_TOPOLOGY"):
        make_host(sharded, RailwayApi(sharded))
