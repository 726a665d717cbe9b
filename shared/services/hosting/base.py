"""What a host is: where instances run. Hosting knows no plugin, no database and no runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr


@dataclass(frozen=True)
class Placement:
    """Where an instance lives at the host; a field is None until its step is done."""

    topology: str
    project_id: str | None = None
    environment_id: str | None = None
    service_id: str | None = None
    volume_id: str | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Launch:
    """Everything one deployment needs, so that it can be committed at once (P14, P16)."""

    image: str
    start_command: str
    variables: Mapping[str, SecretStr]
    cpu: float
    memory_gb: float


@dataclass(frozen=True)
class Seen:
    """What the host says of one instance now."""

    service_id: str
    name: str
    deployment_id: str | None
    deploy_status: str | None
    """The host's own word (`SUCCESS`, `BUILDING` …); None when it names no deployment yet."""
    image: str | None
    domain: str | None
    created_at: str = ""


@dataclass(frozen=True)
class Budget:
    """How many calls the host still allows, as its last answer told."""

    hourly_limit: int | None
    remaining: int | None


@dataclass(frozen=True)
class ListingPage:
    """One page of all instances that the host runs for us; `next_cursor` is None on the last one."""

    seen: tuple[Seen, ...]
    next_cursor: str | None
    budget: Budget


class Host(Protocol):
    """Build, watch and take down the machine of one instance. Every method raises `shared.errors.RemoteError` on failure.

    A creation throttle, in whatever form the host sends it, is a RemoteUnavailableError with code `throttled` and
    `retry_after_seconds` (P21).
    """

    @property
    def topology(self) -> str:
        """`shared` or `sharded`."""

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of `take`, in their order; the deployment comes after the last one (P14, P15)."""

    @property
    def lone_steps(self) -> frozenset[str]:
        """Those of `steps` that, like `deploy`, must not run beside each other in one environment: the caller sees to it."""

    def place(self) -> Placement:
        """Return the placement that a new instance starts with. Makes no call."""

    def take(self, step: str, name: str, placement: Placement, *, doubtful: bool) -> Placement:
        """Do one step of a creation and return the placement with its result.

        *doubtful* says that an earlier attempt at this step may have succeeded: what is there already is looked up and
        adopted before anything is created. A name collision is our own earlier create, and is adopted too.
        """

    def deploy(self, placement: Placement, launch: Launch, *, force: bool = False) -> None:
        """Commit image, start command, limits and variables in one change, which starts exactly one deployment.

        Repeating it with the same launch starts no second one, unless *force*: then a new deployment is started whatever
        differs (P40).
        """

    def remove(self, name: str, placement: Placement) -> None:
        """Take down everything of this instance, and return only when the host confirmed that it is gone (P25).

        What has no id in *placement*, because an answer was lost, is found by *name*. What is already gone is success.
        """

    def list_page(self, cursor: str | None) -> ListingPage:
        """Return one page of our services, in one call (P34, P35)."""

    def read(self, placement: Placement) -> Seen | None:
        """Ask for one instance by id; None when the host says there is none. For instances that are being started only."""
