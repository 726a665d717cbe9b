"""What Railway's refusals mean. Its messages are read here, for decisions, and go nowhere else.

Nearly every failure is HTTP 200 with an `errors` list whose entries all carry the code INTERNAL_SERVER_ERROR, so the message is
what tells one from another. It is compared in lower case, by fragments that were seen in the field.
"""

from __future__ import annotations

import re
from enum import StrEnum

from pydantic import BaseModel

from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.remote import Reply, read_error_body

UNNAMED_PAUSE_SECONDS = 30.0
"""For a limit that names no time: projects and environments are allowed one in 30 s; Cloudflare names none either."""
VOLUME_PAUSE_SECONDS = 10.0
SHORT_PAUSE_SECONDS = 5.0


class Problem(StrEnum):
    """What a refusal means: the `remote_code` of its RemoteError. The first two are its `code` too."""

    THROTTLED = "throttled"
    """Asked too often: of creations of one kind, or of calls at all."""
    PROVIDER_LIMIT = "provider_limit"
    """What the plan allows is used up: no repetition helps."""
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    NOT_AUTHORIZED = "not_authorized"
    """The token lacks the right, *or* the object is gone: Railway says the same of both."""
    IN_PROGRESS = "in_progress"
    """Something else is being done to the same object."""
    UNCLEAR = "unclear"
    """A failure that tells nothing: the change may have happened."""
    INVALID = "invalid"


_FRAGMENTS: tuple[tuple[str, Problem], ...] = (
    (r"too quickly|rate limit|can be created per user|allows \d+ [\w ]+ per \d+ second", Problem.THROTTLED),
    (r"limit exceeded", Problem.PROVIDER_LIMIT),
    (r"not authorized|two factor authentication required|token not found", Problem.NOT_AUTHORIZED),
    (r"already exists|already in use", Problem.ALREADY_EXISTS),
    (r"already in progress|cannot redeploy yet|failed to create service domain", Problem.IN_PROGRESS),
    (r"not found", Problem.NOT_FOUND),
)
"""Tried in this order: `Project Token not found` is about the token, and nothing is gone."""
_INVALID_CODES = ("BAD_USER_INPUT", "GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED")
_WORTH_REPEATING = (Problem.THROTTLED, Problem.IN_PROGRESS, Problem.UNCLEAR)
_SENTENCES = {
    Problem.THROTTLED: "asked us to slow down",
    Problem.PROVIDER_LIMIT: "allows no more under the account's plan",
    Problem.NOT_FOUND: "knows nothing of that id",
    Problem.ALREADY_EXISTS: "already has something of that name",
    Problem.NOT_AUTHORIZED: "did not accept the token for this",
    Problem.IN_PROGRESS: "is still busy with an earlier change",
    Problem.UNCLEAR: "failed without saying why",
    Problem.INVALID: "refused the request as malformed",
}


class _Extensions(BaseModel):
    code: str | None = None


class _Failure(BaseModel):
    message: str = ""
    extensions: _Extensions | None = None


class _Failures(BaseModel):
    errors: tuple[_Failure, ...] | None = None


def failure_in(reply: Reply) -> RemoteError | None:
    """Return the error that an answer of status 200 reports, or None. Errors count even when there is data beside them."""
    body = read_error_body(reply, _Failures)
    if not isinstance(body, _Failures) or not body.errors:
        return None
    first = body.errors[0]
    code = first.extensions.code if first.extensions is not None else None
    return _error(_classify(first.message, code or ""), reply.during, message=first.message)


def better(error: RemoteError) -> RemoteError:
    """Return what a failed HTTP status means in the terms of this module; 429 and refused tokens have no message to read."""
    if error.http_status == 429:
        return _error(Problem.THROTTLED, error.during, http_status=429, retry_after_seconds=error.retry_after_seconds)
    if error.http_status in (401, 403):
        return _error(Problem.NOT_AUTHORIZED, error.during, http_status=error.http_status)
    if error.http_status == 400:
        return _error(Problem.INVALID, error.during, http_status=400)
    return error


def problem(error: RemoteError) -> Problem | None:
    """Return what a refusal means; None for a failure of the network, which says nothing."""
    return next((meaning for meaning in Problem if meaning == error.remote_code), None)


def says_gone(error: RemoteError, *kinds: str) -> bool:
    """Whether Railway says that this very thing does not exist: `Environment not found` is no word about a service."""
    missing = re.search(r"(\w+) not found", error.remote_message, re.IGNORECASE)
    return problem(error) is Problem.NOT_FOUND and missing is not None and missing[1].lower() in {kind.lower() for kind in kinds}


def _classify(message: str, code: str) -> Problem:
    for pattern, meaning in _FRAGMENTS:
        if re.search(pattern, message, re.IGNORECASE):
            return meaning
    return Problem.INVALID if code in _INVALID_CODES else Problem.UNCLEAR


def _error(
    meaning: Problem,
    during: str,
    *,
    message: str = "",
    http_status: int | None = None,
    retry_after_seconds: float | None = None,
) -> RemoteError:
    kind = RemoteUnavailableError if meaning in _WORTH_REPEATING else RemoteRefusedError
    return kind(
        "Railway",
        during,
        _SENTENCES[meaning],
        http_status=http_status,
        remote_code=meaning,
        remote_message=message,
        code=meaning if meaning in (Problem.THROTTLED, Problem.PROVIDER_LIMIT) else "",
        details={"limit": _limited(during)} if meaning is Problem.PROVIDER_LIMIT else None,
        retry_after_seconds=retry_after_seconds or _pause(meaning, message),
    )


def _limited(during: str) -> str:
    """Name the limit by what could not be created: `the volume creation` meets that of volumes."""
    return during.removeprefix("the ").split(" ", maxsplit=1)[0] + "s"


def _pause(meaning: Problem, message: str) -> float | None:
    if meaning is Problem.THROTTLED:
        named = re.search(r"(?:per|every) (\d{1,4})\s?s", message, re.IGNORECASE)
        if named is not None:
            return float(named[1])
        return VOLUME_PAUSE_SECONDS if "volume" in message.lower() else UNNAMED_PAUSE_SECONDS
    return SHORT_PAUSE_SECONDS if meaning in _WORTH_REPEATING else None
