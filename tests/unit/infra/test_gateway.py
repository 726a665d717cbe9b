"""The gateway: the right function, the untouched path, and the design's error body for what it answers itself."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httpx
from werkzeug.wrappers import Request, Response

from infra.local.gateway import Gateway, Mount, Proxy
from infra.routes import Function, table

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

TABLE = table(
    [
        Function("near", "pool", ("GET /near/{id}", "POST /near")),
        Function("far", "services", ("POST /far", "GET /far/{id}")),
        Function("absent", "services", ("GET /absent",)),
    ]
)


def echo(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer with what arrived."""
    request = Request(environ)
    response = Response(request.get_data(), 201, headers={"X-Path": request.path, "X-Kept": "yes", "Keep-Alive": "timeout=5"})
    for name, value in request.headers.items():
        response.headers.add(f"Got-{name}", value)
    response.headers["Got-Query"] = request.query_string.decode()
    return response(environ, start_response)


def client(application: "WSGIApplication", **options: Any) -> httpx.Client:
    return httpx.Client(transport=httpx.WSGITransport(app=application, **options), base_url="http://front")


def proxied() -> httpx.Client:
    far = Proxy("far", "http://far", transport=httpx.WSGITransport(app=echo))
    return client(Gateway(TABLE, local={"near": echo}, remote={"far": far}), remote_addr="10.0.0.9")


def test_a_local_function_gets_its_request() -> None:
    answer = proxied().post("/near", content=b"hello")
    assert (answer.status_code, answer.content) == (201, b"hello")


def test_a_remote_function_gets_body_query_and_headers_and_its_answer_comes_back() -> None:
    answer = proxied().post("/far?a=1&b=%20", content=b"x" * 200_000, headers={"Authorization": "Bearer k"})
    assert answer.status_code == 201
    assert answer.content == b"x" * 200_000
    assert answer.headers["Got-Query"] == "a=1&b=%20"
    assert answer.headers["Got-Authorization"] == "Bearer k"
    assert answer.headers["X-Kept"] == "yes"


def test_headers_of_one_connection_only_are_not_passed_on() -> None:
    answer = proxied().post("/far", content=b"", headers={"Connection": "close, X-Own", "X-Own": "1", "TE": "trailers"})
    assert "Got-X-Own" not in answer.headers
    assert "Got-TE" not in answer.headers
    assert "Keep-Alive" not in answer.headers


def test_the_caller_is_named_to_the_remote_function() -> None:
    answer = proxied().post("/far", headers={"X-Forwarded-For": "1.2.3.4"})
    assert answer.headers["Got-X-Forwarded-For"] == "1.2.3.4, 10.0.0.9"
    assert answer.headers["Got-X-Forwarded-Proto"] == "http"


def test_an_encoded_path_is_handed_on_as_it_was_sent() -> None:
    seen = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, content=iter([b"done"]))

    gateway = Gateway(TABLE, local={}, remote={"far": Proxy("far", "http://far", transport=httpx.MockTransport(handler))})

    def with_raw_uri(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return gateway({**environ, "RAW_URI": "/far/a%2Fb%40c?q=%41"}, start_response)

    assert client(with_raw_uri).get("/far/x?q=%41").status_code == 200
    assert seen == [b"/far/a%2Fb%40c?q=%41"]


def test_a_remote_function_that_is_down_is_a_502_in_the_known_form() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    far = Proxy("far", "http://far", transport=httpx.MockTransport(refuse))
    answer = client(Gateway(TABLE, local={}, remote={"far": far})).post("/far", headers={"X-Request-Id": "request-1"})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "unreachable"
    assert answer.json()["error"]["requestId"] == answer.headers["X-Request-Id"] == "request-1"


def test_a_function_without_a_home_is_a_502() -> None:
    assert proxied().get("/absent").status_code == 502


def test_an_unknown_path_is_a_404_in_the_known_form() -> None:
    answer = proxied().get("/nowhere")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()["error"]) == {"code", "message", "requestId"}


def test_a_wrong_method_is_a_405_that_says_what_is_allowed() -> None:
    answer = proxied().put("/far")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"
    assert answer.json()["error"]["details"] == {"allowed": ["POST"]}


def test_what_is_mounted_sees_the_path_below_its_name() -> None:
    mounted = client(Mount({"railway": echo}))
    assert mounted.post("/railway/graphql/v2").headers["X-Path"] == "/graphql/v2"
    assert mounted.get("/other").status_code == 404
