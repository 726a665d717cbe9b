"""Rows of the schema `services` as frozen models; verbs pass these around, stores make them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import SecretStr, TypeAdapter, ValidationError

from shared.api.base import InstanceId
from shared.errors import AppError, RequestError
from shared.services.hosting.base import Placement
from shared.services.sealing import Ring


class State(StrEnum):
    """How far the building or taking down of an instance is; the last two are its tombstone."""

    CREATING = "creating"
    CREATED = "created"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"


class LedgerStatus(StrEnum):
    """How far the buying or releasing of a resource is."""

    INTENDED = "intended"
    """It was bought, or may have been."""
    ACTIVE = "active"
    RELEASING = "releasing"
    COOLING = "cooling"
    """In our own stock, of no instance."""
    RELEASED = "released"


@dataclass(frozen=True)
class Secrets:
    """An instance's own secrets; nobody else has them."""

    gateway_token: SecretStr
    setup_password: SecretStr
    services_token: SecretStr


@dataclass(frozen=True)
class SealedSecrets:
    """The same as they are stored, with what a token is looked up by."""

    gateway_token: str = field(repr=False)
    gateway_token_hash: bytes = field(repr=False)
    setup_password: str = field(repr=False)
    services_token: str = field(repr=False)
    services_token_hash: bytes = field(repr=False)


@dataclass(frozen=True)
class Instance:
    """One instance, as far as building and taking down needs it."""

    id: str
    name: str
    state: State
    tools: tuple[str, ...]
    step: str | None
    step_begun: bool
    """Whether `step` was begun by somebody who never told its end."""
    problem: str | None
    failures: int
    placement: Placement
    launched_image: str | None
    gateway_token: str | None = field(repr=False)
    setup_password: str | None = field(repr=False)
    services_token: str | None = field(repr=False)
    wait_seconds: float
    """In how many seconds somebody may work on it; 0: now."""
    busy: bool
    """Whether somebody works on it now."""

    def url(self, template: str) -> str | None:
        """Return its address, or None as long as it has no domain."""
        return None if self.placement.domain is None else template.replace("{domain}", self.placement.domain)

    def secrets(self, ring: Ring) -> Secrets:
        """Unseal its own secrets; a tombstone has none any more."""
        if self.gateway_token is None or self.setup_password is None or self.services_token is None:
            raise AppError("The instance has no secrets: it was destroyed.")
        return Secrets(
            gateway_token=ring.unseal(self.gateway_token, instance_id=self.id, column="gateway_token"),
            setup_password=ring.unseal(self.setup_password, instance_id=self.id, column="setup_password"),
            services_token=ring.unseal(self.services_token, instance_id=self.id, column="services_token"),
        )


@dataclass(frozen=True)
class LedgerRow:
    """One line of the ledger: a resource that was bought, or may have been."""

    id: int
    instance_id: str | None
    tool: str
    status: LedgerStatus
    name: str
    attempt: int
    resource_id: str | None
    reason: str | None
    failures: int
    updated_at: datetime


@dataclass(frozen=True)
class LedgerView:
    """What the ledger knows of an instance's tool."""

    known: bool
    """Whether there is such an instance at all."""
    alive: bool
    """Whether it may still be given anything."""
    latest: LedgerRow | None
    last_attempt: int


_INSTANCE_ID: TypeAdapter[str] = TypeAdapter(InstanceId)


def checked_id(text: str) -> str:
    """Return *text*, or raise RequestError when it can be no instance's id."""
    try:
        return _INSTANCE_ID.validate_python(text)
    except ValidationError:
        raise RequestError("An instance id has 1 to 64 letters, digits, hyphens and underscores.") from None
