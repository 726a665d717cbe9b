"""What every plugin is: a vendor's capability that an instance can be given. Plugins know neither the database nor hosting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr


@dataclass(frozen=True)
class Grant:
    """What a plugin bought for an instance."""

    resource_id: str
    """The vendor's identifier, by which the resource is released."""
    variables: Mapping[str, SecretStr] = field(default_factory=dict)
    """Environment variables that the instance gets with it."""


@dataclass(frozen=True)
class Held:
    """One resource that the vendor holds under a name of ours."""

    resource_id: str
    name: str
    created_at: str = ""
    """ISO 8601 where the vendor tells it, else empty."""


@dataclass(frozen=True)
class Page:
    """One page of an inventory; `next_cursor` is None on the last one."""

    held: tuple[Held, ...]
    next_cursor: str | None


class Plugin(Protocol):
    """One capability an instance can be given. Every method raises the errors of `shared.errors`, and nothing else."""

    @property
    def tool(self) -> str:
        """The capability: "email", the word in templates, rows, routes and the dashboard."""

    @property
    def always(self) -> bool:
        """Whether every instance gets it, whatever its template lists."""

    @property
    def reusable(self) -> bool:
        """Whether a released resource goes back to our own stock and is handed out again (P31)."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the environment variables that it grants."""

    def provision(self, name: str, *, attempt: int) -> Grant:
        """Return the resource called *name*, buying it on the first call only.

        *name* comes from `names.make` and already carries *attempt*. Where the vendor shows a secret only once and an earlier
        call's answer was lost, the resource found under *name* is deleted and a new one is bought under the same name.
        """

    def assign(self, resource_id: str, name: str) -> Grant:
        """Give a resource of our stock to the instance called *name*; only reusable plugins are asked."""

    def release(self, resource_id: str) -> None:
        """Delete the resource; one that is already gone is success."""

    def is_gone(self, resource_id: str) -> bool | None:
        """Whether the vendor confirms its end; None when that cannot be told now."""

    def inventory(self, cursor: str | None) -> Page:
        """Return one page of what the vendor holds under names of ours."""
