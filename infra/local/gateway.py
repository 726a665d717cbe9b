"""One port for many functions: local ones are called in process, the rest is passed on to the process that has them.

The path is handed on untouched; which function answers is the route table's decision alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

import httpx

from infra.routes import Table
from shared.errors import AppError, MethodNotAllowedError, RemoteError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_HOP_BY_HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
}  # fmt: skip
_LONGEST_ANSWER_SECONDS = 330.0
_CHUNK_BYTES = 64 * 1024


class Gateway:
    """A WSGI application: the functions of *table*, those in *local* here, the others at the addresses in *remote*."""

    def __init__(self, table: Table, *, local: Mapping[str, WSGIApplication], remote: Mapping[str, WSGIApplication]) -> None:
        self._table = table
        self._applications = {**remote, **local}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            function = self._table.match(environ["REQUEST_METHOD"], raw_path(environ))
            application = self._applications.get(function.name)
            if application is None:
                raise RemoteError(function.name, "the request", "is not served here", code="not_served")
        except AppError as error:
            return refuse(error, start_response)
        return application(environ, start_response)


class Mount:
    """A WSGI application that hands everything below a first path segment to the application of that name."""

    def __init__(self, applications: Mapping[str, WSGIApplication]) -> None:
        self._applications = dict(applications)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request; the segment moves from PATH_INFO to SCRIPT_NAME."""
        first, _, rest = environ.get("PATH_INFO", "").removeprefix("/").partition("/")
        application = self._applications.get(first)
        if application is None:
            return refuse(AppError("There is no such simulator here.", code="no_route"), start_response, status=404)
        script = environ.get("SCRIPT_NAME", "") + "/" + first
        return application({**environ, "SCRIPT_NAME": script, "PATH_INFO": "/" + rest}, start_response)


class Proxy:
    """A WSGI application that passes requests on to another process and streams its answers back.

    Connections are kept; nothing is ever sent twice. Safe to share between threads.
    """

    def __init__(self, name: str, base_url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._name = name
        self._base = httpx.URL(base_url)
        self._client = httpx.Client(
            transport=transport,
            timeout=httpx.Timeout(_LONGEST_ANSWER_SECONDS, connect=5.0),
            limits=httpx.Limits(max_connections=100, max_keepalive_connections=32, keepalive_expiry=15.0),
            trust_env=False,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass one request on, or answer 502 when nobody answers."""
        target = raw_path(environ) + ("?" + environ["QUERY_STRING"] if environ.get("QUERY_STRING") else "")
        request = self._client.build_request(
            environ["REQUEST_METHOD"],
            self._base.copy_with(raw_path=target.encode("latin-1")),
            headers=_forwarded_headers(environ),
            content=_body(environ),
        )
        for name in ("accept", "accept-encoding", "user-agent"):
            if f"HTTP_{name.replace('-', '_').upper()}" not in environ:
                request.headers.pop(name, None)
        try:
            response = self._client.send(request, stream=True)
        except httpx.HTTPError:
            problem = RemoteError(self._name, "the request", "could not be reached", code="unreachable")
            return refuse(problem, start_response, request_id=environ.get("HTTP_X_REQUEST_ID"))
        kept = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _HOP_BY_HOP]
        start_response(f"{response.status_code} {response.reason_phrase or 'Answer'}", kept)
        return _Stream(response)


class _Stream:
    """The body of an answer that is still arriving; the connection is given back when the server closes it."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_raw()

    def close(self) -> None:
        self._response.close()


def raw_path(environ: WSGIEnvironment) -> str:
    """Return the path as it was sent, still encoded (`%2F` is not a slash); servers name it differently."""
    sent: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    if not sent.startswith("/"):
        sent = httpx.URL(sent).raw_path.decode("latin-1") if "://" in sent else environ.get("PATH_INFO", "/")
    return sent.partition("?")[0].partition("#")[0] or "/"


def refuse(
    error: AppError, start_response: StartResponse, *, status: int | None = None, request_id: str | None = None
) -> Iterable[bytes]:
    """Answer with the error body that every function uses."""
    known = request_id or uuid.uuid4().hex
    body: dict[str, Any] = {"code": error.code, "message": error.message, "requestId": known}
    if error.details:
        body["details"] = error.details
    content = json.dumps({"error": body}).encode()
    headers = [
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(content))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Request-Id", known),
    ]
    if isinstance(error, MethodNotAllowedError):
        headers.append(("Allow", ", ".join(error.allowed)))
    start_response(f"{status or error.status} Refused", headers)
    return [content]


def _forwarded_headers(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    """What the caller sent, end to end, and who the caller was."""
    named = {key[5:].replace("_", "-").lower(): value for key, value in environ.items() if key.startswith("HTTP_")}
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            named[key.replace("_", "-").lower()] = environ[key]
    dropped = _HOP_BY_HOP | {part.strip().lower() for part in named.get("connection", "").split(",")} | {"expect"}
    kept = {name: value for name, value in named.items() if name not in dropped}
    caller = environ.get("REMOTE_ADDR", "")
    kept["x-forwarded-for"] = ", ".join(filter(None, [kept.get("x-forwarded-for"), caller]))
    kept.setdefault("x-forwarded-proto", environ.get("wsgi.url_scheme", "http"))
    return list(kept.items())


def _body(environ: WSGIEnvironment) -> Iterator[bytes] | None:
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdigit() and int(length) > 0:
        return _read(environ["wsgi.input"], int(length))
    return _read(environ["wsgi.input"], None) if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower() else None


def _read(stream: IO[bytes], length: int | None) -> Iterator[bytes]:
    while length is None or length > 0:
        chunk = stream.read(_CHUNK_BYTES if length is None else min(_CHUNK_BYTES, length))
        if not chunk:
            return
        length = None if length is None else length - len(chunk)
        yield chunk
