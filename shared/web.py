"""HTTP at the edge of every function: request → model → use case → JSON, and errors → statuses.

A function is a plain callable made by `function(...)` from its routes; nothing is built before its first request. Whatever a
caller sends, the answer is JSON, and every error has the one body that the contract names.
"""

from __future__ import annotations

import functools
import hmac
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import flask
from pydantic import BaseModel, SecretStr, ValidationError
from werkzeug.datastructures import Headers
from werkzeug.exceptions import ClientDisconnected, NotFound
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed
from werkzeug.routing import Map, Rule

from shared import log
from shared.errors import (
    AppError,
    MediaTypeError,
    MethodNotAllowedError,
    NotFoundError,
    RequestError,
    TooLargeError,
    UnauthorizedError,
)
from shared.settings import reveal

MAX_BODY_BYTES = 256 * 1024
_NUL = "\x00"
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{8,100}$")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")
_CLOUD_TRACE = re.compile(r"^([0-9a-f]{32})(?:/([0-9]{1,20}))?")

C = TypeVar("C")


@dataclass(frozen=True)
class Call:
    """One request, parsed: what a handler may look at."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Headers
    body: Any
    """An instance of the route's body model."""


@dataclass(frozen=True)
class Reply:
    """An answer whose status is not 200, or that carries headers."""

    body: BaseModel | Mapping[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Route(Generic[C]):
    """One route of a function.

    *template* is `METHOD /path/<name>`; *allow* raises UnauthorizedError for callers that may not; *query* names the query
    parameters that exist (an unknown one is refused, so that a typing mistake is not ignored).
    """

    template: str
    handle: Callable[[Call, C], Any]
    allow: Callable[[Call, C], None]
    body: type[BaseModel] | None = None
    query: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The HTTP method."""
        return self.template.split(" ", 1)[0]

    @property
    def path(self) -> str:
        """The path, with werkzeug's placeholders."""
        return self.template.split(" ", 1)[1]


class Application(Generic[C]):
    """The routes of one function together with what builds their context, once per process."""

    def __init__(self, routes: tuple[Route[C], ...], *, context: Callable[[], C]) -> None:
        self.routes = routes
        self._context = _once(context)
        self._map = Map(
            [Rule(route.path, methods=[route.method], endpoint=route) for route in routes],
            strict_slashes=False,
            merge_slashes=False,
        )

    def respond(self, request: flask.Request, *, name: str, context: C | None = None) -> flask.Response:
        """Answer *request*; *context* stands in for the one that the settings describe."""
        trace = _trace(request, name)
        with log.tracing(trace):
            try:
                response = self._serve(request, context)
            except AppError as error:
                _report(error)
                response = _error_response(error, trace)
            except Exception as error:  # noqa: BLE001 - the edge: whatever happened, the caller gets the one error body
                log.error("request.crashed", exception=error, method=request.method)
                response = _error_response(AppError("Something went wrong here; it has been recorded."), trace)
        response.headers["X-Request-Id"] = trace.request_id
        response.headers["Cache-Control"] = response.headers.get("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    def wsgi(self, context: C, *, name: str = "test") -> flask.Flask:
        """Return the function as a WSGI application with a given context (for mounting it without a server)."""
        app = flask.Flask(__name__)
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
        view = functools.partial(self._view, name=name, context=context)
        app.add_url_rule("/", "root", view, methods=methods, provide_automatic_options=False)
        app.add_url_rule("/<path:path>", "any", view, methods=methods, provide_automatic_options=False)
        return app

    def _view(self, *, name: str, context: C, path: str = "") -> flask.Response:
        return self.respond(flask.request, name=name, context=context)

    def _serve(self, request: flask.Request, given: C | None) -> flask.Response:
        route, path = self._match(request)
        context = self._context() if given is None else given
        call = Call(path=path, query={}, headers=request.headers, body=None)
        route.allow(call, context)
        call = Call(path=path, query=_query(request, route.query), headers=request.headers, body=_body(request, route.body))
        return _respond(route.handle(call, context))

    def _match(self, request: flask.Request) -> tuple[Route[C], Mapping[str, str]]:
        adapter = self._map.bind("", path_info=request.path)
        try:
            route, path = adapter.match(method="GET" if request.method == "HEAD" else request.method)
        except WerkzeugMethodNotAllowed as error:
            raise MethodNotAllowedError([method for method in (error.valid_methods or []) if method != "HEAD"]) from None
        except NotFound:
            raise NotFoundError("There is no such path here.", code="no_route") from None
        if any(_NUL in value for value in path.values()):
            raise RequestError("The path contains a NUL character.")
        return route, path


def _once(build: Callable[[], C]) -> Callable[[], C]:
    """Return what *build* returns, built at the first call and by one thread; a failure is not remembered."""
    lock = threading.Lock()
    built: list[C] = []

    def get() -> C:
        with lock:
            if not built:
                built.append(build())
            return built[0]

    return get


def function(routes: tuple[Route[C], ...], *, name: str, context: Callable[[], C]) -> Callable[[flask.Request], Any]:
    """Make the plain callable that functions-framework serves; its `application` attribute is for tests and for the gateway."""
    application = Application(routes, context=context)

    def serve(request: flask.Request) -> flask.Response:
        return application.respond(request, name=name)

    serve.__name__ = serve.__qualname__ = name
    serve.application = application  # type: ignore[attr-defined]
    return serve


def bearer(read_key: Callable[[C], SecretStr]) -> Callable[[Call, C], None]:
    """Allow callers that send the key as a bearer token; the comparison takes constant time (P44)."""

    def allow(call: Call, context: C) -> None:
        if not is_bearer(call.headers, read_key(context)):
            raise UnauthorizedError()

    return allow


def is_bearer(headers: Headers, key: SecretStr) -> bool:
    """Whether *headers* carry exactly this key as a bearer token."""
    scheme, _, sent = headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode(), reveal(key).encode())


def anyone(call: Call, context: object) -> None:
    """Allow everybody."""


def _body(request: flask.Request, model: type[BaseModel] | None) -> BaseModel | None:
    raw = _read(request)
    if model is None:
        if raw.strip():
            raise RequestError("This path takes no body.")
        return None
    if not raw.strip():
        raw = b"{}"
    elif request.mimetype != "application/json":
        raise MediaTypeError()
    try:
        body = model.model_validate_json(raw)
    except ValidationError as error:
        raise _explain(error) from None
    except RecursionError:
        raise RequestError("The body is nested too deeply.", code="invalid_json") from None
    if b"\\u0000" in raw and _contains_nul(json.loads(raw)):
        raise RequestError("The body contains a NUL character (\\u0000), which cannot be stored.")
    return body


def _read(request: flask.Request) -> bytes:
    if request.content_length is not None and request.content_length > MAX_BODY_BYTES:
        raise TooLargeError(f"The body may have at most {MAX_BODY_BYTES // 1024} KiB.")
    try:
        raw = request.stream.read(MAX_BODY_BYTES + 1)
    except (ClientDisconnected, OSError):
        raise RequestError("The body ended before its announced length.", code="incomplete_body") from None
    if len(raw) > MAX_BODY_BYTES:
        raise TooLargeError(f"The body may have at most {MAX_BODY_BYTES // 1024} KiB.")
    return raw


def _query(request: flask.Request, known: tuple[str, ...]) -> Mapping[str, str]:
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        choices = f"; this path knows {', '.join(known)}" if known else "; this path knows none"
        raise RequestError(f"Unknown query parameter {unknown[0][:60]!r}{choices}.", code="invalid_query")
    if any(_NUL in value for value in request.args.values()):
        raise RequestError("A query parameter contains a NUL character.", code="invalid_query")
    return request.args.to_dict()


def _explain(error: ValidationError) -> RequestError:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    if problems[0]["type"] == "json_invalid":
        return RequestError("The body is not valid JSON.", code="invalid_json")
    fields = {".".join(str(part) for part in problem["loc"])[:100] or "body": problem["msg"] for problem in problems[:10]}
    name, what = next(iter(fields.items()))
    return RequestError(f"{name}: {what}.", details={"fields": fields})


def _contains_nul(value: object) -> bool:
    if isinstance(value, str):
        return _NUL in value
    if isinstance(value, dict):
        return any(_contains_nul(key) or _contains_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(map(_contains_nul, value))


def _respond(result: Any) -> flask.Response:
    reply = result if isinstance(result, Reply) else Reply(result)
    content = reply.body.model_dump_json(by_alias=True) if isinstance(reply.body, BaseModel) else json.dumps(reply.body)
    return flask.Response(content, reply.status, headers=dict(reply.headers), content_type="application/json")


def _error_response(error: AppError, trace: log.Trace) -> flask.Response:
    body: dict[str, Any] = {"code": error.code, "message": error.message, "requestId": trace.request_id}
    if error.details:
        body["details"] = error.details
    response = flask.Response(json.dumps({"error": body}), error.status, content_type="application/json")
    if error.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
    if isinstance(error, MethodNotAllowedError):
        response.headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, UnauthorizedError):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _report(error: AppError) -> None:
    if isinstance(error, RequestError):
        log.info("request.refused", code=error.code, status=error.status)
    elif error.status == 500:
        log.error("request.failed", code=error.code, status=error.status, reason=error.message, exception=error)
    else:
        log.warning("request.failed", code=error.code, status=error.status, reason=error.message)


def _trace(request: flask.Request, name: str) -> log.Trace:
    sent = request.headers.get("X-Request-Id", "")
    request_id = sent if _REQUEST_ID.match(sent) else uuid.uuid4().hex
    parent = _TRACEPARENT.match(request.headers.get("traceparent", ""))
    if parent is not None:
        return log.Trace(request_id, trace_id=parent[1], span_id=parent[2], function=name)
    cloud = _CLOUD_TRACE.match(request.headers.get("X-Cloud-Trace-Context", ""))
    if cloud is not None:
        return log.Trace(request_id, trace_id=cloud[1], span_id=f"{int(cloud[2] or 0):016x}", function=name)
    return log.Trace(request_id, function=name)
