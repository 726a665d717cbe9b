"""What every plugin is: a vendor's capability that an instance can be given. Plugins know neither the database nor hosting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import SecretStr

from shared.errors import RemoteError, RemoteRefusedError, RequestError
from shared.remote import Reply
from shared.services import names
from shared.settings import SendableKey

NAME_SPENT = "name_spent"
"""Code of a RemoteRefusedError: this vendor gives a name once only, so the caller takes the next attempt, with its own name."""
_LONGEST_CURSOR = 9

VendorKey = SendableKey
"""A vendor's key in a settings model."""


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
    def title(self) -> str:
        """The capability as people read it."""

    @property
    def always(self) -> bool:
        """Whether every instance gets it, whatever its template lists."""

    @property
    def reusable(self) -> bool:
        """Whether a released resource goes back to our own stock and is handed out again (P31)."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of the environment variables that it grants."""

    def provision(self, name: str, *, attempt: int, doubtful: bool) -> Grant:
        """Return the resource called *name*, and leave exactly one.

        *doubtful* says that an earlier call for this instance may have bought something, its answer lost: what is there under
        *name* is looked up and adopted before anything is bought. Where the vendor shows a secret only once, the secret is
        replaced: by a new one of the same resource or, where secret and resource are one, by a new resource after the old
        one was deleted. Without *doubtful* nothing is looked up. *name* comes from `names.make` and already carries *attempt*.

        A RemoteUnavailableError leaves the outcome open: call again, doubtful. A RemoteRefusedError whose code is
        `NAME_SPENT` asks for the next attempt. Callers see to it that one instance is provisioned by one worker at a time.
        """

    def assign(self, resource_id: str, name: str) -> Grant:
        """Give a resource of our stock to the instance called *name*; only reusable plugins are asked. Twice is once."""

    def release(self, resource_id: str) -> None:
        """Delete the resource; one that is already gone is success."""

    def find(self, name: str) -> str | None:
        """Return the id of a resource that the vendor holds under exactly *name*, or None: for releasing what was bought when
        its answer, and with it the id, was lost. A purchase that is still under way is waited for.
        """

    def is_gone(self, resource_id: str) -> bool | None:
        """Whether the vendor confirms its end; None when that cannot be told now, an outage included."""

    def inventory(self, cursor: str | None) -> Page:
        """Return one page of what the vendor holds under names of ours.

        A resource that moved while the pages were read may stand on two of them; only the last page has no `next_cursor`.
        """


def same_instance(candidate: str, name: str) -> bool:
    """Whether both names are of one instance in one environment, whatever their attempts."""
    left, right = names.parse(candidate), names.parse(name)
    if left is None or right is None:
        return candidate == name
    return (left.environment_key, left.instance_key) == (right.environment_key, right.instance_key)


def numbered(cursor: str | None, *, first: int) -> int:
    """Return the place in an inventory that a cursor of digits names, or RequestError: it comes from a caller."""
    if cursor is None:
        return first
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _LONGEST_CURSOR and int(cursor) >= first):
        raise RequestError("That is no cursor of this inventory.", code="invalid_query")
    return int(cursor)


def told(ask: Callable[[], bool | None]) -> bool | None:
    """Return what *ask* learned from a vendor, or None when the vendor gave no clear answer; a refusal is raised."""
    try:
        return ask()
    except RemoteRefusedError:
        raise
    except RemoteError:
        return None


def confirm(reply: Reply) -> None:
    """Accept a deletion's answer: "not found", no body, or JSON; a page of some proxy in between confirms nothing (P25, P38)."""
    if reply.status != 404 and reply.content.strip():
        reply.parse(dict[str, object])
