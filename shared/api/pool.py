"""The front door: what callers and operators send to the pool side, and what they get."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AnyUrl, Field, JsonValue, field_validator, model_validator

from shared.api.base import Answer, Body, InstanceId

Text100 = Annotated[str, Field(min_length=1, max_length=100)]


class ClaimRequest(Body):
    """Ask for a live agent."""

    agent_name: Text100 = "Assistant"
    instructions: Annotated[str, Field(min_length=1, max_length=65_536)] = "You are a helpful AI assistant."
    join_url: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    template_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    owner_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    user_config: Annotated[dict[str, dict[str, JsonValue]], Field(max_length=20)] | None = None
    metadata: Annotated[dict[str, JsonValue], Field(max_length=100)] | None = None
    wait_seconds: Annotated[float, Field(ge=0, le=30)] = 0

    @field_validator("join_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            address = AnyUrl(value)
            if address.scheme not in {"http", "https"} or not address.host:
                raise ValueError("an invite is an http or https address")
        return value

    @model_validator(mode="after")
    def _tools_come_with_a_template(self) -> ClaimRequest:
        if self.user_config and self.template_id is None:
            raise ValueError("userConfig is for the tools of a template: name it in templateId")
        return self


class Claimed(Answer):
    """An agent of the caller's own."""

    claim_id: str
    instance_id: str
    status: Literal["claimed", "pending_acceptance"]
    conversation_id: str | None
    invite_url: str | None
    joined: bool
    agent_name: str
    gateway_url: str
    template_id: str | None = None


class ClaimRecord(Answer):
    """What is known of a claim."""

    claim_id: str
    status: str
    owner_id: str | None
    agent_name: str
    instance_id: str | None
    conversation_id: str | None
    invite_url: str | None
    joined: bool
    attempts: int
    problem: str | None
    created_at: datetime
    finished_at: datetime | None
    ended_at: datetime | None


class Health(Answer):
    """The function runs and its database answers."""

    status: Literal["ok"] = "ok"


class Version(Answer):
    """Which code is running."""

    version: str


class Counts(Answer):
    """How many instances stand where; numbers only."""

    counts: dict[str, int]
    total: int
    target: int
    max_instances: int
    paused: bool


class Info(Answer):
    """What this pool is; nothing about any instance."""

    environment: str
    version: str
    target: int
    max_instances: int
    create_concurrency: int
    paused: bool


class Agent(Answer):
    """One instance, for an operator."""

    instance_id: str
    status: str
    status_since: datetime
    reason: str | None
    version: int
    protected: bool
    introduced: bool
    current_image: bool
    image: str | None
    url: str | None
    observed: str | None
    deploy_status: str | None
    health_reason: str | None
    failed_checks: int
    failing_since: datetime | None
    created_at: datetime
    claim_id: str | None
    agent_name: str | None
    owner_id: str | None
    conversation_id: str | None
    invite_url: str | None


class Agents(Answer):
    """A page of instances, oldest first; `next` is the cursor of the following one."""

    agents: list[Agent]
    next: str | None


class Event(Answer):
    """Something that happened."""

    id: int
    at: datetime
    kind: str
    instance_id: str | None
    claim_id: str | None
    actor: str
    details: dict[str, Any] | None


class Events(Answer):
    """A page of events, newest first."""

    events: list[Event]
    next: str | None


class AgentDetails(Answer):
    """Everything known about one instance."""

    agent: Agent
    claim: ClaimRecord | None
    resources: dict[str, Any] | None
    """The services side's ledger of it; None when that side did not answer."""
    events: list[Event]


class Tick(Answer):
    """What one tick saw, decided and did, and why."""

    id: int
    started_at: datetime
    finished_at: datetime | None
    outcome: str
    seen: dict[str, Any]
    decided: dict[str, Any]
    done: dict[str, Any]
    warnings: list[str]


class Ticks(Answer):
    """Recent ticks, newest first."""

    ticks: list[Tick]


class SweepRecord(Answer):
    """What one sweep found, as the services side told it."""

    id: int
    at: datetime
    result: dict[str, Any]


class Sweeps(Answer):
    """Recent sweeps, newest first."""

    sweeps: list[SweepRecord]


class TickResult(Answer):
    """What calling the tick led to; `skipped` when another one was running."""

    outcome: Literal["done", "held_back", "skipped"]
    tick_id: int | None = None
    warnings: list[str] = Field(default_factory=list)


class PoolStatus(Answer):
    """The pool at a glance, for an operator."""

    environment: str
    counts: Counts
    desired_image: str | None
    """What new instances run, as the services side last reported it."""
    last_tick: Tick | None
    warnings: list[str]
    operations: list[Operation]


class Operation(Answer):
    """Work that may take longer than a request."""

    operation_id: str
    kind: str
    status: Literal["running", "done", "failed"]
    instance_ids: list[str]
    total: int
    done: int
    problem: str | None
    created_at: datetime
    finished_at: datetime | None


class RunTick(Body):
    """Run a tick now."""

    accept_losses: bool = False
    """An operator confirms that the losses which held back the last tick are real."""


class ObserveRequest(Body):
    """Look at these instances now."""

    instance_ids: Annotated[list[InstanceId], Field(min_length=1, max_length=500)]


class Replenish(Body):
    """Fill the pool up to its target now, with at most `count` new instances."""

    count: Annotated[int, Field(ge=1, le=1000)] | None = None


class Drain(Body):
    """Destroy unclaimed instances: `count` of them, oldest first, or all."""

    count: Annotated[int, Field(ge=1, le=10_000)] | None = None
    all: bool = False
    pause: bool = False
    """Also stop creating, so that the next tick does not undo the drain."""
    min_idle: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """Also set the target."""

    @model_validator(mode="after")
    def _says_how_many(self) -> Drain:
        if (self.count is None) == (not self.all):
            raise ValueError("say either count or all: true")
        return self


class Pause(Body):
    """Stop creating instances until resumed."""

    reason: Annotated[str, Field(min_length=1, max_length=300)] | None = None


class RedeployRequest(Body):
    """Start a new deployment of this instance."""

    image: Annotated[str, Field(min_length=1, max_length=300)] | None = None


class FromInstance(Answer):
    """What an instance's runtime sends about itself; fields that we do not know are its own affair."""

    instance_id: InstanceId
    gateway_token: Annotated[str, Field(min_length=1, max_length=500)]


class PoolSettings(Answer):
    """The live settings in force, and the version to name when changing them."""

    version: int
    min_idle: int
    max_instances: int
    create_concurrency: int
    paused: bool
    paused_reason: str | None


class PutSettings(Body):
    """Change live settings; what is left out stays, null goes back to the environment's value."""

    version: Annotated[int, Field(ge=1)] | None = None
    """The version that this change replaces; left out, the latest."""
    min_idle: Annotated[int, Field(ge=0, le=10_000)] | None = None
    max_instances: Annotated[int, Field(ge=0, le=100_000)] | None = None
    create_concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None


PoolStatus.model_rebuild()
