"""The body of every error of ours, as the functions that call each other read it."""

from __future__ import annotations

from shared.api.base import Answer
from shared.remote import Reply, read_error_body


class Problem(Answer):
    """What went wrong, for programs and for people."""

    code: str = ""
    message: str = ""


class ErrorBody(Answer):
    """The one form in which every function refuses."""

    error: Problem


def explain(reply: Reply) -> tuple[str, str]:
    """Return the code and message of a refusal of ours; empty when it is not one of ours (for `Remote`)."""
    body = read_error_body(reply, ErrorBody)
    return (body.error.code, body.error.message) if isinstance(body, ErrorBody) else ("", "")
