"""Rows of the pool schema as frozen models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from shared.pool.lifecycle import Status


@dataclass(frozen=True, slots=True)
class Taken:
    """An instance that a claim holds under a lease."""

    id: str
    generation: int
    """The fencing number: whoever comes later has a higher one."""
    not_after: datetime
    """The last moment at which the services side may still introduce it."""
    url: str | None


@dataclass(frozen=True, slots=True)
class Instance:
    """What an observation is compared with."""

    id: str
    status: Status
    version: int
    introduced: bool
    current_image: bool
    url: str | None
    image: str | None
    observed: str | None
    deploy_status: str | None
    health_reason: str | None
    failed_checks: int
    failing_since: datetime | None
    status_since: datetime
    conversation_id: str | None
    """The conversation of the claim that holds it."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Instance:
        """Build it from a row of `list_to_observe`."""
        return cls(status=Status(row["status"]), **{name: row[name] for name in _INSTANCE_FIELDS})


_INSTANCE_FIELDS = tuple(name for name in Instance.__dataclass_fields__ if name != "status")


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An instance whose creation or destruction is not confirmed yet."""

    id: str
    status: Status
    built: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class ExpiredLease:
    """A claim whose process did not finish in time."""

    id: str
    generation: int
    claim_id: UUID


@dataclass(frozen=True, slots=True)
class Supply:
    """Why nothing could be taken, and when something may be again."""

    idle: int
    estimated_seconds: float | None
    """None while creating is paused and nothing is under way."""


@dataclass(frozen=True, slots=True)
class Census:
    """How many instances stand where."""

    counts: dict[str, int]
    """Every status, also those that none has."""
    longest_starting_seconds: float
    """For how long the instance that is starting longest has been at it; 0 when none is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The target and caps in force: what operators set, or else the environment's values."""

    version: int
    min_idle: int
    max_instances: int
    create_concurrency: int
    paused: bool
    paused_reason: str | None
    desired_image: str | None
