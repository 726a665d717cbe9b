"""The door to the network: every failure becomes an error of ours, retries end, and nothing secret is repeated."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from pydantic import BaseModel, SecretStr

from shared import log
from shared.errors import AppError, RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.remote import NO_RETRY, Remote, Reply, Retry, retry_after_seconds

Handler = Callable[[httpx.Request], httpx.Response]
QUICK = Retry(attempts=3, within_seconds=10, first_pause_seconds=0.001)


class Answer(BaseModel):
    ready: bool
    token: SecretStr = SecretStr("")


def remote(handler: Handler, *, retry: Retry = NO_RETRY, explain: Callable[[Reply], tuple[str, str]] | None = None) -> Remote:
    return Remote(
        "Vendor",
        "https://vendor.example/v1",
        headers={"Authorization": "Bearer ours-secret"},
        transport=httpx.MockTransport(handler),
        retry=retry,
        explain=explain,
    )


def answering(status: int, body: str = "{}", headers: dict[str, str] | None = None) -> Handler:
    return lambda request: httpx.Response(status, text=body, headers=headers)


def failing(error: Exception) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        raise error

    return handler


def every_httpx_error() -> list[type[Exception]]:
    return sorted(
        (
            kind
            for kind in vars(httpx).values()
            if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__.startswith("httpx")
        ),
        key=lambda kind: kind.__name__,
    )


def make(kind: type[Exception]) -> Exception:
    if issubclass(kind, httpx.HTTPStatusError):
        request = httpx.Request("GET", "https://vendor.example")
        return kind("x", request=request, response=httpx.Response(500))
    try:
        return kind("Bearer ours-secret")
    except TypeError:
        return kind()


@pytest.mark.parametrize("kind", every_httpx_error(), ids=lambda kind: kind.__name__)
def test_no_error_of_httpx_leaks(kind: type[Exception]) -> None:
    with pytest.raises(AppError) as caught:
        remote(failing(make(kind))).send("GET", "/things", during="reading a thing")
    assert isinstance(caught.value, RemoteError)
    assert "ours-secret" not in str(caught.value)


def test_the_list_of_httpx_errors_is_not_empty() -> None:
    assert {httpx.ReadTimeout, httpx.ConnectError, httpx.InvalidURL, httpx.DecodingError} <= set(every_httpx_error())


@pytest.mark.parametrize(
    ("error", "never_sent"),
    [
        (httpx.ConnectError("x"), True),
        (httpx.ConnectTimeout("x"), True),
        (httpx.PoolTimeout("x"), True),
        (httpx.ReadTimeout("x"), False),
        (httpx.WriteTimeout("x"), False),
        (httpx.ReadError("x"), False),
        (httpx.WriteError("x"), False),
        (httpx.RemoteProtocolError("x"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_a_request_that_never_left_is_told_as_never_sent(error: Exception, *, never_sent: bool) -> None:
    """P4: a call that may have arrived counts as one that may have happened."""
    with pytest.raises(RemoteUnavailableError) as caught:
        remote(failing(error)).send("POST", "/things", during="making a thing")
    assert caught.value.never_sent is never_sent


def test_a_key_that_no_header_can_carry_is_an_error_without_the_key() -> None:
    """P43: a stray line break in a secret must not print the secret."""
    with pytest.raises(RemoteError) as caught:
        remote(failing(httpx.LocalProtocolError("Illegal header value b'Bearer ours-secret\\n'"))).send(
            "GET", "/things", during="reading a thing"
        )
    assert "ours-secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 524, 599])
def test_a_status_that_asks_for_patience_is_unavailable(status: int) -> None:
    with pytest.raises(RemoteUnavailableError) as caught:
        remote(answering(status)).send("GET", "/things", during="reading a thing")
    assert caught.value.http_status == status


@pytest.mark.parametrize("status", [301, 302, 304, 307, 400, 401, 402, 403, 404, 405, 409, 410, 413, 422, 451])
def test_any_other_status_is_a_refusal_and_no_redirect_is_followed(status: int) -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(str(request.url))
        return httpx.Response(status, headers={"Location": "https://elsewhere.example/"})

    with pytest.raises(RemoteRefusedError) as caught:
        remote(handler, retry=QUICK).send("GET", "/things", during="reading a thing", repeatable=True)
    assert caught.value.http_status == status
    assert calls == ["https://vendor.example/v1/things"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_an_answer(status: int) -> None:
    assert remote(answering(status)).send("GET", "/things", during="reading a thing").status == status


def test_a_status_that_the_caller_accepts_is_an_answer() -> None:
    assert remote(answering(404)).send("DELETE", "/things/1", during="deleting a thing", accept=(404,)).status == 404


@pytest.mark.parametrize("body", ["<html>Please log in</html>", "", "null", "[]", '{"ready": "perhaps"}', '{"ready"', "\x00\xff"])
def test_a_body_of_another_shape_is_an_error_that_is_not_quoted(body: str, capfd: pytest.CaptureFixture[str]) -> None:
    """P38: a page of HTML with status 200 crashes no parser and proves nothing."""
    reply = remote(answering(200, body)).send("GET", "/health", during="checking its health")
    with pytest.raises(RemoteError) as caught:
        reply.parse(Answer)
    assert not isinstance(caught.value, RemoteRefusedError)
    assert str(caught.value) == "Vendor gave an answer that cannot be read during checking its health."
    line = json.loads(capfd.readouterr().err)
    assert line["message"] == "remote.unreadable"
    assert line["excerpt"] == (body if body.startswith("<") else "")


def test_neither_an_error_nor_a_log_line_repeats_the_vendors_body(capfd: pytest.CaptureFixture[str]) -> None:
    """P43."""
    vendor = remote(answering(400, '{"key": "body-secret"}'), explain=lambda reply: ("bad", "body-secret"))
    with pytest.raises(RemoteRefusedError) as caught:
        vendor.send("POST", "/things", during="making a thing", json={"password": "sent-secret"})
    reply = remote(answering(200, '{"ready": [], "token": "body-secret"}')).send("GET", "/things", during="reading a thing")
    with pytest.raises(RemoteError) as unreadable:
        reply.parse(Answer)
    shown = f"{caught.value} {caught.value!r} {unreadable.value!r} {reply!r} {caught.value.details}" + capfd.readouterr().err
    for secret in ("body-secret", "sent-secret", "ours-secret"):
        assert secret not in shown
    assert (caught.value.remote_code, caught.value.remote_message) == ("bad", "body-secret")


def test_a_repeatable_request_is_repeated_as_often_as_allowed_and_no_more() -> None:
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(503)

    with pytest.raises(RemoteUnavailableError):
        remote(handler, retry=QUICK).send("GET", "/things", during="reading a thing", repeatable=True)
    assert len(calls) == 3


def test_a_repeatable_request_succeeds_when_the_system_comes_back() -> None:
    answers = iter([httpx.Response(503), httpx.Response(429), httpx.Response(200, json={"ready": True})])
    vendor = remote(lambda request: next(answers), retry=QUICK)
    reply = vendor.send("GET", "/health", during="checking its health", repeatable=True)
    assert reply.parse(Answer).ready


def test_a_request_that_may_not_be_repeated_is_sent_once() -> None:
    """P17: a purchase is never repeated blindly."""
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        raise httpx.ReadTimeout("x")

    with pytest.raises(RemoteUnavailableError):
        remote(handler, retry=QUICK).send("POST", "/things", during="making a thing")
    assert len(calls) == 1


def test_a_wait_longer_than_allowed_is_handed_to_the_caller_at_once() -> None:
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(429, headers={"Retry-After": "60"})

    with pytest.raises(RemoteUnavailableError) as caught:
        remote(handler, retry=QUICK).send("GET", "/things", during="reading a thing", repeatable=True)
    assert len(calls) == 1
    assert caught.value.retry_after_seconds == 60


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), (" 7 ", 7.0), ("999999", 3600.0), ("-1", None), ("soon", None), ("", None), ("²", None)]
)
def test_retry_after_is_whole_seconds_within_reason(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"retry-after": text}) == seconds


def test_the_request_id_travels_along() -> None:
    seen: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("X-Request-Id"))
        return httpx.Response(200)

    with log.tracing(log.Trace("request-1")):
        remote(handler).send("GET", "/things", during="reading a thing")
    remote(handler).send("GET", "/things", during="reading a thing")
    assert seen == ["request-1", None]


def test_what_a_caller_quoted_in_a_path_stays_quoted() -> None:
    """An inbox's id is a mail address and a number begins with a plus: both stay as they were quoted."""
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200)

    remote(handler).send("GET", "/inboxes/a%40b.example/%2B1415", during="reading a thing")
    assert seen == [b"/v1/inboxes/a%40b.example/%2B1415"]


def test_a_page_instead_of_json_is_logged_as_a_short_excerpt(capsys: pytest.CaptureFixture[str]) -> None:
    """P38: an error page is an error; its beginning helps the operator, and nothing that might be JSON is quoted (P43)."""
    page = Reply("Railway", "listing", 200, {}, b"<html><h1>Bad   gateway</h1>" + b"x" * 5000)
    with pytest.raises(RemoteError):
        page.parse(dict)
    assert "<html><h1>Bad gateway</h1>" in capsys.readouterr().err
    half = Reply("OpenRouter", "buying", 200, {}, b'{"key": "sk-or-v1-secret"')
    with pytest.raises(RemoteError):
        half.parse(dict)
    assert "secret" not in capsys.readouterr().err
