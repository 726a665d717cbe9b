"""The edge: whatever is sent, the answer is JSON, and every error has the one body."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from shared import web
from shared.api.base import Answer, Body
from shared.errors import AppError, NoIdleInstanceError, RemoteUnavailableError

KEY = "a-key-of-some-length"


@dataclass(frozen=True)
class Context:
    key: SecretStr = field(default_factory=lambda: SecretStr(KEY))


class Order(Body):
    how_many: int = 1
    note: str | None = None


class Receipt(Answer):
    how_many: int
    path_name: str | None = None


def _order(call: web.Call, context: Context) -> Receipt:
    return Receipt(how_many=call.body.how_many)


def _named(call: web.Call, context: Context) -> Receipt:
    return Receipt(how_many=len(call.query), path_name=call.path["name"])


def _crash(call: web.Call, context: Context) -> None:
    raise RuntimeError("a secret detail")


def _busy(call: web.Call, context: Context) -> None:
    raise NoIdleInstanceError(retry_after_seconds=0.2)


def _remote(call: web.Call, context: Context) -> None:
    raise RemoteUnavailableError("OpenRouter", "buying a key", remote_message="vendor words")


ROUTES: tuple[web.Route[Context], ...] = (
    web.Route("POST /orders", _order, web.bearer(lambda context: context.key), body=Order),
    web.Route("GET /things/<name>", _named, web.anyone, query=("limit",)),
    web.Route("GET /crash", _crash, web.anyone),
    web.Route("GET /busy", _busy, web.anyone),
    web.Route("GET /remote", _remote, web.anyone),
)


@pytest.fixture
def client() -> FlaskClient:
    return web.Application(ROUTES, context=Context).wsgi(Context()).test_client()


def post(client: FlaskClient, body: Any, **headers: str) -> TestResponse:
    sent = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", **headers}
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return client.post("/orders", data=data, headers=sent)


def check_error(response: TestResponse, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.json is not None
    error: dict[str, Any] = response.json["error"]
    assert error["code"] == code
    assert error["message"].endswith(".")
    assert error["requestId"] == response.headers["X-Request-Id"]
    return error


def test_a_good_request_is_answered_in_camel_case(client: FlaskClient) -> None:
    assert post(client, {"howMany": 3}).json == {"howMany": 3, "pathName": None}


def test_an_empty_body_means_the_defaults(client: FlaskClient) -> None:
    response = client.post("/orders", headers={"Authorization": f"Bearer {KEY}"})
    assert response.json == {"howMany": 1, "pathName": None}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{not json", "invalid_json"),
        ('{"howMany": 1}}', "invalid_json"),
        ("[1]", "invalid_request"),
        ("null", "invalid_request"),
        ('"text"', "invalid_request"),
        ({"howMany": "3"}, "invalid_request"),
        ({"howMany": 1.5}, "invalid_request"),
        ({"howMany": True}, "invalid_request"),
        ({"howMany": None}, "invalid_request"),
        ({"unknown": 1}, "invalid_request"),
        ({"how_much": 1}, "invalid_request"),
        ({"note": "a\x00b"}, "invalid_request"),
        ('{"note": "\\ud800"}', "invalid_json"),
        ("[" * 50_000, "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
    ],
)
def test_a_bad_body_is_a_clear_400(client: FlaskClient, body: Any, code: str) -> None:
    check_error(post(client, body), 400, code)


def test_the_error_names_the_field_and_not_its_value(client: FlaskClient) -> None:
    error = check_error(post(client, {"howMany": "my secret"}), 400, "invalid_request")
    assert "howMany" in error["message"]
    assert "my secret" not in json.dumps(error)


def test_a_large_body_is_refused_unread(client: FlaskClient) -> None:
    check_error(post(client, b'{"note": "' + b"x" * 2_000_000 + b'"}'), 413, "body_too_large")


def test_another_content_type_is_refused(client: FlaskClient) -> None:
    check_error(post(client, {"howMany": 1}, **{"Content-Type": "text/plain"}), 415, "unsupported_media_type")


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", KEY, "Bearer \xe9"])
def test_no_or_a_wrong_key_is_401_before_the_body_is_looked_at(client: FlaskClient, sent: str) -> None:
    """P44."""
    response = client.post("/orders", data="{not json", headers={"Authorization": sent})
    check_error(response, 401, "unauthorized")


def test_a_wrong_method_names_the_right_ones(client: FlaskClient) -> None:
    response = client.delete("/orders")
    check_error(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PATCH"])
def test_every_other_method_has_the_same_error_body(client: FlaskClient, method: str) -> None:
    check_error(client.open("/orders", method=method), 405, "method_not_allowed")


def test_an_unknown_path_is_404(client: FlaskClient) -> None:
    check_error(client.get("/nothing/here"), 404, "no_route")


def test_an_unknown_query_parameter_is_refused_rather_than_ignored(client: FlaskClient) -> None:
    error = check_error(client.get("/things/a?limti=3"), 400, "invalid_query")
    assert "limit" in error["message"]


def test_a_nul_in_path_or_query_is_400(client: FlaskClient) -> None:
    check_error(client.get("/things/a%00b"), 400, "invalid_request")
    check_error(client.get("/things/a?limit=%00"), 400, "invalid_query")


def test_an_encoded_name_arrives_decoded(client: FlaskClient) -> None:
    response = client.get("/things/a%40b%2Bc")
    assert response.json is not None
    assert response.json["pathName"] == "a@b+c"


def test_a_crash_says_nothing_about_itself_and_is_logged(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    """P43: neither the answer nor the log line carries the exception's text."""
    response = client.get("/crash")
    check_error(response, 500, "internal")
    logged = capsys.readouterr().err
    assert "a secret detail" not in response.text + logged
    line = json.loads(logged.splitlines()[-1])
    assert (line["message"], line["exception"]) == ("request.crashed", "RuntimeError")


def test_retry_after_is_at_least_a_second(client: FlaskClient) -> None:
    response = client.get("/busy")
    check_error(response, 503, "no_idle_instances")
    assert response.headers["Retry-After"] == "1"


def test_another_systems_words_are_not_repeated(client: FlaskClient) -> None:
    error = check_error(client.get("/remote"), 502, "remote_unavailable")
    assert "vendor words" not in json.dumps(error)


def test_a_request_id_is_kept_when_it_is_sane_and_made_when_not(client: FlaskClient) -> None:
    assert client.get("/things/a", headers={"X-Request-Id": "abc-12345"}).headers["X-Request-Id"] == "abc-12345"
    assert len(client.get("/things/a", headers={"X-Request-Id": "<script>"}).headers["X-Request-Id"]) == 32


@pytest.mark.parametrize("trace", ["9" * 5000, "/" + "9" * 5000, "/".join(["a" * 32, "9" * 5000]), "/".join(["a" * 32, "²"])])
def test_a_strange_trace_does_no_harm(client: FlaskClient, trace: str) -> None:
    answer = client.get("/busy", headers={"X-Cloud-Trace-Context": trace, "traceparent": trace})
    assert answer.is_json


def test_traces_reach_the_log_in_the_shape_of_cloud_logging(client: FlaskClient, capsys: pytest.CaptureFixture[str]) -> None:
    client.get("/busy", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["logging.googleapis.com/trace"].endswith("a" * 32)
    assert line["logging.googleapis.com/spanId"] == "b" * 16
    client.get("/busy", headers={"X-Cloud-Trace-Context": f"{'c' * 32}/17;o=1"})
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["logging.googleapis.com/spanId"] == f"{17:016x}"


def test_answers_are_not_cached(client: FlaskClient) -> None:
    assert client.get("/things/a").headers["Cache-Control"] == "no-store"


def test_every_error_of_ours_has_a_status_and_a_sentence() -> None:
    def all_kinds(kind: type[AppError]) -> set[type[AppError]]:
        return {kind}.union(*(all_kinds(sub) for sub in kind.__subclasses__()))

    for kind in all_kinds(AppError):
        assert 400 <= kind.status < 600
        assert kind.__doc__
        assert kind.__doc__.strip().splitlines()[0].endswith(".")
