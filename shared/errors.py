"""Every error that is raised on purpose.

    AppError                       500  anything raised on purpose; its docstring is the default message
    ├── RequestError               400  the caller must change something
    │   ├── UnauthorizedError      401
    │   ├── NotFoundError          404
    │   ├── MethodNotAllowedError  405
    │   ├── PreconditionError      412
    │   ├── TooLargeError          413
    │   ├── MediaTypeError         415
    │   ├── MismatchError          422  the same key with another body
    │   ├── QuotaError             429
    │   └── ConflictError          409
    │       └── IllegalMoveError        the row is no longer in the expected status
    ├── NotYetError                501  named by the contract, not built yet
    ├── NoIdleInstanceError        503  ask again shortly
    ├── NotConfiguredError         503  a capability whose vendor key is not set
    ├── DatabaseUnavailableError   503  Postgres did not answer; nothing is known to have happened
    ├── StatementError             500  Postgres refused a statement; nothing of its transaction was kept
    │   └── ConstraintError             a value that the schema forbids
    ├── RemoteError                502  another system failed; knows which, and during what
    │   ├── RemoteUnavailableError      timeout, 429, 5xx: worth retrying; the outcome may be unknown
    │   └── RemoteRefusedError          other 4xx: retrying will not help
    └── SettingsError              500  names the missing variable, at the first request

Only `remote.py` turns httpx errors into these, only `db.py` turns pg8000 errors into these, and only `web.py` turns
these into statuses. A message is a sentence that a person can act on; it quotes neither a vendor's body nor a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class AppError(Exception):
    """Something failed that we foresaw."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "",
        details: Mapping[str, object] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.message = message or _first_line(type(self))
        self.code = code or self.default_code
        self.details = dict(details or {})
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)


def _first_line(kind: type[AppError]) -> str:
    return (kind.__doc__ or "It failed.").strip().splitlines()[0]


class RequestError(AppError):
    """The request cannot be accepted as it is."""

    status = 400
    default_code = "invalid_request"


class UnauthorizedError(RequestError):
    """Send a valid key as `Authorization: Bearer <key>`."""

    status = 401
    default_code = "unauthorized"


class NotFoundError(RequestError):
    """There is nothing of that name."""

    status = 404
    default_code = "not_found"


class MethodNotAllowedError(RequestError):
    """This path does not take that method."""

    status = 405
    default_code = "method_not_allowed"

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = sorted(allowed)
        super().__init__(f"This path takes {' or '.join(self.allowed)}.", details={"allowed": self.allowed})


class PreconditionError(RequestError):
    """The version named is no longer the current one."""

    status = 412
    default_code = "precondition_failed"


class TooLargeError(RequestError):
    """The body is larger than this function accepts."""

    status = 413
    default_code = "body_too_large"


class MediaTypeError(RequestError):
    """Send the body as JSON, with `Content-Type: application/json`."""

    status = 415
    default_code = "unsupported_media_type"


class MismatchError(RequestError):
    """The same idempotency key came with another body."""

    status = 422
    default_code = "idempotency_mismatch"


class QuotaError(RequestError):
    """The owner's limit is reached."""

    status = 429
    default_code = "quota"


class ConflictError(RequestError):
    """The current state does not allow it."""

    status = 409
    default_code = "conflict"


class IllegalMoveError(ConflictError):
    """The row is no longer in the status that the change expected."""

    default_code = "illegal_move"


class NotYetError(AppError):
    """This part of the contract is not built yet."""

    status = 501
    default_code = "not_yet"


class NoIdleInstanceError(AppError):
    """No idle instance is left; ask again shortly."""

    status = 503
    default_code = "no_idle_instances"


class NotConfiguredError(AppError):
    """That capability has no credentials here, so nothing was bought."""

    status = 503
    default_code = "not_configured"


class DatabaseUnavailableError(AppError):
    """The database did not answer; ask again shortly."""

    status = 503
    default_code = "database_unavailable"


class StatementError(AppError):
    """The database refused a statement."""

    default_code = "statement_refused"


class ConstraintError(StatementError):
    """The database refused a value that its schema forbids."""

    default_code = "constraint_violation"


class RemoteError(AppError):
    """Another system failed."""

    status = 502
    default_code = "remote_failed"

    def __init__(
        self,
        system: str,
        during: str,
        problem: str = "failed",
        *,
        http_status: int | None = None,
        remote_code: str = "",
        remote_message: str = "",
        never_sent: bool = False,
        code: str = "",
        details: Mapping[str, object] | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.system = system
        self.during = during
        self.http_status = http_status
        self.remote_code = remote_code
        """The other system's own error code, where its answer had one: for decisions, never for a message."""
        self.remote_message = remote_message
        """The other system's own words, for classification only: it never reaches a log line or an answer."""
        self.never_sent = never_sent
        """True only when the request certainly did not reach the other system."""
        super().__init__(
            f"{system} {problem} during {during}.", code=code, details=details, retry_after_seconds=retry_after_seconds
        )


class RemoteUnavailableError(RemoteError):
    """Another system did not answer in time, or asked for patience; the outcome may be unknown."""

    default_code = "remote_unavailable"


class RemoteRefusedError(RemoteError):
    """Another system refused; asking again will not help."""

    default_code = "remote_refused"


class SettingsError(AppError):
    """A setting is missing or malformed."""

    default_code = "settings"
