"""The services API: what the pool side asks and what the services side answers (the functions `instances`, `provision_*`)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, JsonValue

from shared.api.base import Answer, Body, Generation, InstanceId

Deadline = Annotated[float, Field(gt=0, le=300)]
MAX_BATCH = 500


class ServiceStatus(StrEnum):
    """What the services side says of one instance. `unregistered`: it has no such row, which changes nothing."""

    CREATING = "creating"
    DEPLOYING = "deploying"
    DEPLOY_FAILED = "deploy_failed"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNREACHABLE = "unreachable"
    SLEEPING = "sleeping"
    DESTROYING = "destroying"
    GONE = "gone"
    UNKNOWN = "unknown"
    UNREGISTERED = "unregistered"


class CreateInstance(Body):
    """Build an instance, or go on building it."""

    instance_id: InstanceId
    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    tools: Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=20)] = Field(default_factory=list)
    deadline_seconds: Deadline = 20.0


class Created(Answer):
    """200: the instance exists and its one deployment is under way."""

    instance_id: str
    url: str
    status: str


class Working(Answer):
    """202: it is not finished; ask again after `retry_after_seconds`."""

    instance_id: str
    status: str
    step: str
    retry_after_seconds: float
    problem: str | None = None
    """Why the last attempt stopped, in words; None when it merely ran out of time."""


class Destroyed(Answer):
    """200: everything of this instance is gone, each part confirmed by its vendor."""

    instance_id: str
    released: dict[str, bool]
    hosting: bool


class StatusBatch(Body):
    """Ask for the state of many instances. Without `instance_ids`, all are paged through with `cursor`."""

    instance_ids: Annotated[list[InstanceId], Field(max_length=MAX_BATCH)] | None = None
    cursor: Annotated[str, Field(max_length=200)] | None = None
    max_age_seconds: Annotated[float, Field(ge=0, le=3600)] = 30.0
    deadline_seconds: Deadline = 20.0
    wake: Annotated[list[InstanceId], Field(max_length=MAX_BATCH)] = Field(default_factory=list)
    """Sleeping instances among those asked for that are to be woken by a request."""


class Observed(Answer):
    """The state of one instance, as the services side knows it."""

    status: ServiceStatus
    deploy_status: str | None = None
    url: str | None = None
    image: str | None = None
    reason: str | None = None
    failed_checks: int = 0
    failing_since: datetime | None = None
    conversation_id: str | None = None
    clean: bool | None = None
    checked_at: datetime | None = None


class Listing(Answer):
    """The provider listing that the answer rests on."""

    id: int | None = None
    at: datetime | None = None
    complete: bool = False


class StatusPage(Answer):
    """One page of states; `next` is the cursor of the following one."""

    instances: dict[str, Observed]
    next: str | None = None
    listing: Listing = Listing()
    current_image: str | None = None


class Configure(Body):
    """Introduce an instance to its caller, once, and not after `not_after`."""

    claim_id: Annotated[str, Field(min_length=1, max_length=64)]
    generation: Generation
    not_after: AwareDatetime
    agent_name: Annotated[str, Field(min_length=1, max_length=100)]
    instructions: Annotated[str, Field(max_length=65_536)]
    join_url: Annotated[str, Field(max_length=2048)] | None = None
    model: Annotated[str, Field(max_length=200)] | None = None
    metadata: dict[str, JsonValue] | None = None
    variables: dict[str, str] | None = None


class HandOver(StrEnum):
    """How the runtime took the introduction."""

    JOINED = "joined"
    CREATED = "created"
    PENDING_ACCEPTANCE = "pending_acceptance"


class Configured(Answer):
    """What the runtime answered, kept by claim: a repeated configure returns it again."""

    conversation_id: str | None
    invite_url: str | None
    joined: bool
    status: HandOver


class Settle(Body):
    """Close a generation for good and tell what became of it."""

    generation: Generation


class Introduction(StrEnum):
    """Whether an instance was introduced under a generation."""

    NEVER = "never"
    BOUND = "bound"
    MAYBE = "maybe"


class Settled(Answer):
    """What became of a generation that can send no more."""

    introduced: Introduction
    conversation_id: str | None = None
    invite_url: str | None = None
    joined: bool = False
    status: HandOver | None = None


class Reset(Body):
    """Reset an instance to its factory state."""

    generation: Generation


class Cleaned(Answer):
    """Whether the runtime proves that it is clean; None when it cannot tell."""

    clean: bool | None


class Verify(Body):
    """Check a token that claims to be an instance's own."""

    gateway_token: Annotated[str, Field(min_length=1, max_length=500)]


class Verified(Answer):
    """Whether the token belongs to this instance, and to it alone."""

    valid: bool


class Redeploy(Body):
    """Start a new deployment with the desired image, or the one given."""

    image: Annotated[str, Field(min_length=1, max_length=300)] | None = None


class Redeployed(Answer):
    """A new deployment is under way."""

    instance_id: str
    image: str
    status: str


class Provision(Body):
    """Give an instance a tool."""

    config: dict[str, Any] | None = None
    user_config: dict[str, Any] | None = None


class Provisioned(Answer):
    """The tool is there; twice is once."""

    tool: str
    resource_id: str
    status: str


class Released(Answer):
    """The resource is released, or is back in our own stock."""

    tool: str
    resource_id: str
    status: str


class HeldResource(Answer):
    """A resource that a vendor holds under a name of ours."""

    resource_id: str
    name: str
    created_at: str


class Inventory(Answer):
    """One page of what a vendor holds. With `?probe=true` no vendor is asked and only `configured` is told."""

    tool: str
    configured: bool
    held: list[HeldResource] = Field(default_factory=list)
    next: str | None = None


class Tool(Answer):
    """One capability an instance can be given."""

    id: str
    name: str
    provisioning: list[str]
    always: bool
    variables: list[str]
    configured: bool


class Registry(Answer):
    """Every capability there is."""

    tools: list[Tool]


class Resource(Answer):
    """One line of an instance's ledger, without any secret."""

    tool: str
    status: str
    resource_id: str | None
    attempt: int
    reason: str | None
    updated_at: datetime


class Resources(Answer):
    """What the services side holds for an instance."""

    instance_id: str
    state: str
    step: str | None
    problem: str | None
    url: str | None
    image: str | None
    tools: list[Resource]


class PutImage(Body):
    """Set the image that new deployments use."""

    image: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\s]+$")]


class Image(Answer):
    """The desired image: what was asked for, and the digest that stands for it now."""

    image: str
    digest: str | None
    pinned: str
    checked_at: datetime | None


class Limits(Answer):
    """What the provider's last answers said of our allowance."""

    hourly_limit: int | None
    remaining: int | None
    listing_interval_seconds: float
    listing_at: datetime | None


class Sweep(Body):
    """Compare what every vendor holds with our tables. `mode` may ask for less than the setting allows, never for more."""

    deadline_seconds: Deadline = 20.0
    mode: Literal["report", "delete"] | None = None
    accept_losses: bool = False
    """Confirms that orphans are to be ended although they are most of what a vendor holds for us."""


class Finding(Answer):
    """A difference that stands. `orphan`: the vendor holds what our tables do not know; `missing`: the reverse."""

    id: int
    kind: str
    vendor: str
    """A tool, or `hosting`."""
    resource_id: str
    name: str
    instance_id: str | None = None
    """Whose it is by our tables; None for an orphan."""
    vendor_created_at: datetime | None = None
    first_seen_at: datetime
    last_seen_at: datetime
    times_seen: int
    confirmed: bool
    """Whether two sweeps saw it at least a minute apart."""
    acted_at: datetime | None = None
    reason: str | None = None
    """Why the last attempt to end it failed."""


class SweepResult(Answer):
    """What a sweep found and did."""

    findings: list[Finding]
    """Everything that stands now, of earlier sweeps too."""
    complete: dict[str, bool | None]
    """Whether each vendor was listed to its end, without which nothing is concluded; None: it cannot be asked."""
    notes: dict[str, str] = Field(default_factory=dict)
    """Why a vendor was not listed to its end."""
    acted: int
    """How many orphans this sweep ended; a number went back to our own stock."""
    mode: str
