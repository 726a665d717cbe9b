"""What the Railway simulator holds: rows without behaviour, and the knobs that change how it behaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol
from uuid import uuid4

from graphql import GraphQLError

_sequence = count(1)


class Machines(Protocol):
    """What runs the instances: told when a deployment is up, and when its machine has to go. Both may be repeated.

    They are called while the simulator is locked: they must return soon and must not call it back.
    """

    def start(self, domain: str, environment: dict[str, str], image: str, *, volume: bool) -> object:
        """Start a machine at *domain* with the variables that its deployment saw, in place of one that runs there.

        With a *volume* the new one keeps what the old one wrote.
        """

    def stop(self, domain: str) -> None:
        """Stop the machine at *domain*; one that does not run is fine."""

    def sleep(self, domain: str) -> None:
        """Put the machine at *domain* to sleep until a request arrives there."""

    def is_asleep(self, domain: str) -> bool:
        """Whether the machine at *domain* still sleeps."""


class NoMachines:
    """Machines of which nothing is wanted but the records; what sleeps there sleeps on."""

    def start(self, domain: str, environment: dict[str, str], image: str, *, volume: bool) -> None:
        """Do nothing."""

    def stop(self, domain: str) -> None:
        """Do nothing."""

    def sleep(self, domain: str) -> None:
        """Do nothing."""

    def is_asleep(self, domain: str) -> bool:
        """Say that it sleeps."""
        return True


@dataclass
class Behaviour:
    """How the simulated account behaves; every field may be changed at any time."""

    boot_seconds: float = 3.0
    """From the start of a deployment to SUCCESS or FAILED; the first third of it is INITIALIZING, the rest DEPLOYING."""
    instance_delay_seconds: float = 0.0
    """How long a new service's instance is invisible, though the service itself is listed."""
    volume_delay_seconds: float = 0.0
    """How long a new volume's instance is invisible, though the volume itself is listed."""
    known_images: set[str] | None = None
    """The images that can be pulled; None: all whose reference does not contain `missing`."""
    private_images: tuple[str, ...] = ()
    """Prefixes of images that cannot be pulled without registry credentials."""
    limits: dict[str, int] = field(default_factory=dict)
    """Plan limits: `projects`, `services` and `volumes` (these two per project); absent: none."""
    throttles: dict[str, float] = field(default_factory=dict)
    """Seconds between two creations: by mutation, `projectCreate` or `volumeCreate` (really 30 for the first)."""
    gone_message: str | None = None
    """What a deletion of something gone is told; None: `<Kind> not found`. Railway also says `Not Authorized`."""
    cut: str | None = None
    """Spoil listings: `next_fails`, `half` (half a page, then failure), `stuck` (the cursor does not advance)."""
    max_page: int = 500
    hourly_limit: int = 10_000


class Clock:
    """Seconds that only move forward, and what date they stand for."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self._offset = time.time() - seconds()

    def text(self, at: float | None) -> str | None:
        """Return the date of *at*, in the form of Railway's answers."""
        if at is None:
            return None
        return datetime.fromtimestamp(self._offset + at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def epoch(self, at: float) -> int:
        """Return *at* in seconds since 1970."""
        return int(self._offset + at)


@dataclass(kw_only=True, eq=False)
class Row:
    """What every object has: an id, an age, an end, and its place in listings."""

    id: str = field(default_factory=lambda: str(uuid4()))
    created_at: float = 0.0
    deleted_at: float | None = None
    order: int = field(default_factory=lambda: next(_sequence))


@dataclass(kw_only=True, eq=False)
class Project(Row):
    """A project; everything in it ends with it."""

    name: str
    workspace_id: str | None = None
    description: str | None = None
    is_public: bool = False
    pr_deploys: bool = False


@dataclass(kw_only=True, eq=False)
class Environment(Row):
    """An environment of a project."""

    project_id: str
    name: str
    shared_variables: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class Service(Row):
    """A service; its settings are those of its instances, one per environment."""

    project_id: str
    name: str


@dataclass(kw_only=True, eq=False)
class Domain(Row):
    """A generated domain of a service instance."""

    domain: str
    service_id: str
    environment_id: str
    project_id: str
    target_port: int | None = None


@dataclass(kw_only=True, eq=False)
class VolumeInstance(Row):
    """A volume in one environment; a deletion leaves it pending for two days. `service_id` goes when the service goes."""

    name: str
    volume_id: str = field(default_factory=lambda: str(uuid4()))
    project_id: str
    environment_id: str
    service_id: str | None
    mount_path: str
    region: str | None = None
    is_pending_deletion: bool = False


@dataclass(kw_only=True, eq=False)
class ServiceInstance(Row):
    """A service in one environment: its configuration in the shape of `EnvironmentConfig`, and what was made of it."""

    service: Service
    environment_id: str
    config: dict[str, Any] = field(default_factory=dict)
    domains: list[Domain] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)

    @property
    def image(self) -> str | None:
        """The image that the next deployment will use."""
        image: str | None = self.config.get("source", {}).get("image")
        return image


@dataclass(kw_only=True, eq=False)
class Deployment(Row):
    """One deployment: the image and the variables that it saw when it was started."""

    instance: ServiceInstance
    image: str
    variables: dict[str, str]
    config: dict[str, Any]
    status: str = "INITIALIZING"
    status_at: float = 0.0


def refused(message: str, code: str = "INTERNAL_SERVER_ERROR") -> GraphQLError:
    """Return the error that Railway reports inside an answer of status 200."""
    return GraphQLError(message, extensions={"code": code, "traceId": uuid4().hex[:16]})


def merged(base: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return *base* with *patch* laid over it: objects are merged, a null takes the key away."""
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
