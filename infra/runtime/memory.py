"""What one agent knows: whom it was told to serve, and which conversation it is in. No HTTP here.

Introductions take time: a conversation is *on its way* until the clock reaches its moment, and a factory reset does not call
it back, exactly as an abandoned introduction of the real runtime may still succeed minutes later (P4). Everything moves when
it is looked at; there is no thread. Whoever holds the agent's lock may call these methods.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Heard:
    """Something the agent was told. Kept for ever, beyond resets, so that a test can prove who was told what (P3)."""

    at: float
    life: int
    """Counted from 1; every factory reset begins the next. Two callers in one life is the accident that must not happen."""
    agent_name: str | None = None
    instructions: str | None = field(default=None, repr=False)
    join_url: str | None = field(default=None, repr=False)
    model: str | None = None
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Conversation:
    """A conversation that the agent is in, or on its way into; without an id while the inviter has not accepted it."""

    conversation_id: str | None
    invite_url: str | None
    joined: bool
    lands_at: float

    @property
    def status(self) -> str:
        """The runtime's own word for it."""
        if self.conversation_id is None:
            return "pending_acceptance"
        return "joined" if self.joined else "created"


class Memory:
    """The state that an agent keeps on its volume."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told = False
        self._introduced = False
        self._life = 1
        self._conversation: Conversation | None = None
        self._on_the_way: list[Conversation] = []
        self.heard: list[Heard] = []

    def hear(self, **told: Any) -> None:
        """Keep what the agent was told; from now on it is not clean."""
        self.heard.append(Heard(self._clock(), self._life, **told))
        self._told = True

    def set_out(self, join_url: str | None, *, takes_seconds: float) -> Conversation:
        """Set out to join *join_url*, or to create a conversation, and return what it will be."""
        lands_at = self._clock() + takes_seconds
        if join_url is None:
            invite_url = f"https://invites.example/{secrets.token_hex(8)}"
            conversation = Conversation(secrets.token_hex(8), invite_url, False, lands_at)
        elif "pending" in join_url:
            conversation = Conversation(None, None, False, lands_at)
        else:
            conversation = Conversation(id_of(join_url), None, True, lands_at)
        self._on_the_way.append(conversation)
        self._introduced = True
        return conversation

    def accept(self, conversation_id: str) -> None:
        """Let the inviter accept a join that was pending."""
        pending = self.conversation
        if pending is None or pending.conversation_id is not None:
            raise ValueError("no join is waiting for an acceptance")
        self._conversation = Conversation(conversation_id, None, True, pending.lands_at)

    def reset(self) -> None:
        """Forget everything but what is on its way."""
        self._settle()
        self._told = False
        self._introduced = False
        self._conversation = None
        self._life += 1

    @property
    def conversation(self) -> Conversation | None:
        """The conversation that the agent is in now."""
        self._settle()
        return self._conversation

    @property
    def pending(self) -> bool:
        """Whether the agent waits for an acceptance, or is still on its way into a conversation of this life."""
        conversation = self.conversation
        if conversation is not None:
            return conversation.conversation_id is None
        return self._told and bool(self._on_the_way)

    @property
    def bound(self) -> bool:
        """Whether somebody introduced himself in this life, or an earlier join arrived; new variables alone do not bind."""
        return self.conversation is not None or self._introduced

    @property
    def clean(self) -> bool:
        """Whether nobody has told it anything since it was new or reset, as far as it knows."""
        return self.conversation is None and not self._told

    def _settle(self) -> None:
        now = self._clock()
        for conversation in [each for each in self._on_the_way if each.lands_at <= now]:
            self._on_the_way.remove(conversation)
            self._conversation = conversation
            self._told = True


def id_of(join_url: str) -> str:
    """Return the id of the conversation behind an invite; the same for every agent that joins it."""
    return hashlib.sha256(join_url.encode()).hexdigest()[:16]
