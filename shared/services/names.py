"""The one place that makes and parses the names under which vendors hold what is ours (P22, P26).

A name is `convos-agent-<environment>-<instance>`, at most 32 characters, lower-case letters, digits and hyphens: valid for
every vendor. Environment and instance are shortened by a digest where they would not fit, so a name is always a function of
both, and a later attempt to buy the same thing has its own name (`….2`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

PREFIX = "convos-agent"
_ENVIRONMENT_LENGTH = 8
_INSTANCE_LENGTH = 10
_SHAPE = re.compile(
    rf"{PREFIX}-([a-z0-9]{{1,{_ENVIRONMENT_LENGTH}}})-([a-z0-9]{{1,{_INSTANCE_LENGTH}}})(?:\.([2-9]|[1-9][0-9]{{1,3}}))?"
)


@dataclass(frozen=True)
class Name:
    """What a vendor's name tells: whose environment, which instance (as `instance_key` gives it), which attempt."""

    environment_key: str
    instance_key: str
    attempt: int


def make(environment: str, instance_id: str, *, attempt: int = 1) -> str:
    """Return the name of an instance's resource; for `attempt` 1 it is at most 32 characters long."""
    base = f"{PREFIX}-{environment_key(environment)}-{instance_key(instance_id)}"
    return base if attempt == 1 else f"{base}.{attempt}"


def parse(name: str) -> Name | None:
    """Read a name back, or None when it is not one of ours."""
    match = _SHAPE.fullmatch(name)
    if match is None:
        return None
    return Name(environment_key=match[1], instance_key=match[2], attempt=int(match[3] or 1))


def environment_key(environment: str) -> str:
    """Return the short form of an environment's name that stands in names."""
    return _shorten(environment, _ENVIRONMENT_LENGTH)


def instance_key(instance_id: str) -> str:
    """Return the short form of an instance id that stands in names."""
    return _shorten(instance_id, _INSTANCE_LENGTH)


def _shorten(text: str, length: int) -> str:
    if re.fullmatch(rf"[a-z0-9]{{1,{length}}}", text):
        return text
    digest = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()
    return digest[:length]
