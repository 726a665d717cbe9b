"""Reads and writes of hand-overs: what was, or may have been, introduced to whom, and which generations are closed.

The fence is two numbers on the instance's own row, so that its row lock orders sending, closing and resetting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from shared.api.services import Configured
from shared.db import Row, Rows, Session, load_queries
from shared.errors import AppError
from shared.services.models import State
from shared.services.sealing import Ring

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))


@dataclass(frozen=True)
class Target:
    """An instance that may be talked to."""

    id: str
    state: State
    domain: str | None
    gateway_token: str | None = field(repr=False)
    """Sealed; None once it is destroyed."""
    seconds_left: float = 0.0
    """How long sending is still allowed; only for a target that may be sent to."""

    def address(self, ring: Ring, *, template: str) -> tuple[str, SecretStr]:
        """Return its URL and its token; AppError when it has neither."""
        if self.domain is None or self.gateway_token is None:
            raise AppError("The instance has no address or no token.")
        token = ring.unseal(self.gateway_token, instance_id=self.id, column="gateway_token")
        return template.replace("{domain}", self.domain), token


@dataclass(frozen=True)
class Standing:
    """What stands for or against an introduction."""

    target: Target
    busy: bool
    closed: bool
    sent: bool
    answer: Configured | None
    """What the runtime answered to this claim before."""

    @property
    def open(self) -> bool:
        """Whether nothing but the time stands against sending it, as far as was read."""
        settled = self.busy or self.closed or self.sent or self.answer is not None
        return self.target.state is State.CREATED and not settled


@dataclass(frozen=True)
class HandOver:
    """One introduction that was, or may have been, sent."""

    joining: bool
    refused: bool
    answer: Configured | None


@dataclass(frozen=True)
class TokenHash:
    """What a gateway token is recognised by."""

    sha256: bytes
    owners: int
    """How many living instances have it; more than one proves nothing about any."""


def read_target(db: Session, instance_id: str) -> Target | None:
    """Read where an instance is, whatever its state."""
    return _target(db.run(QUERIES["read_target"], instance_id=instance_id))


def record_sent(
    db: Session, instance_id: str, *, claim_id: str, generation: int, not_after: datetime, joining: bool
) -> Target | None:
    """Record that an introduction is about to be sent, or None when it may not be. One statement; the first sender wins."""
    return _target(
        db.run(
            QUERIES["record_sent"],
            instance_id=instance_id,
            claim_id=claim_id,
            generation=generation,
            not_after=not_after,
            joining=joining,
        )
    )


def read_standing(db: Session, instance_id: str, *, claim_id: str, generation: int) -> Standing | None:
    """Read what stands for or against an introduction; None when there is no such instance."""
    for row in db.run(QUERIES["read_standing"], instance_id=instance_id, claim_id=claim_id, generation=generation):
        return Standing(_as_target(row), row["busy"], row["closed"], row["sent"], _answer(row))
    return None


def withdraw(db: Session, instance_id: str, *, generation: int) -> None:
    """Forget an introduction that certainly told the instance nothing; its generation stays spent."""
    db.run(QUERIES["withdraw"], instance_id=instance_id, generation=generation)


def record_refused(db: Session, instance_id: str, *, generation: int) -> None:
    """Note that the instance was bound already: its conversation is not of this introduction."""
    db.run(QUERIES["record_refused"], instance_id=instance_id, generation=generation)


def record_answer(db: Session, instance_id: str, *, generation: int, answer: Configured, although_closed: bool = False) -> bool:
    """Keep the runtime's answer; False when the generation was closed or overtaken meanwhile, and the answer does not count."""
    kept = db.run(
        QUERIES["record_answer"],
        instance_id=instance_id,
        generation=generation,
        conversation_id=answer.conversation_id,
        answer=answer.model_dump(mode="json"),
        although_closed=although_closed,
    )
    return bool(kept)


def close(db: Session, instance_id: str, *, generation: int) -> Target | None:
    """Close all generations up to this one for good; None when there is no such instance. Twice is once."""
    return _target(db.run(QUERIES["close"], instance_id=instance_id, generation=generation))


def read_hand_over(db: Session, instance_id: str, *, generation: int) -> HandOver | None:
    """Read one introduction; None when it was never sent."""
    for row in db.run(QUERIES["read_hand_over"], instance_id=instance_id, generation=generation):
        return HandOver(row["joining"], row["refused"], _answer(row))
    return None


def begin_reset(db: Session, instance_id: str, *, generation: int, worker: UUID, lease_seconds: float) -> Target | None:
    """Become the one who resets the instance, or None when this generation may not, or somebody works on it."""
    return _target(
        db.run(QUERIES["begin_reset"], instance_id=instance_id, generation=generation, worker=worker, lease_seconds=lease_seconds)
    )


def finish_reset(db: Session, instance_id: str, *, worker: UUID, clean: bool | None) -> None:
    """Note what the runtime proved, and let others work on the instance."""
    db.run(QUERIES["finish_reset"], instance_id=instance_id, worker=worker, clean=clean)


def read_token_hash(db: Session, instance_id: str) -> TokenHash | None:
    """Read what a living instance's gateway token is recognised by."""
    for row in db.run(QUERIES["read_token_hash"], instance_id=instance_id):
        return TokenHash(row["gateway_token_hash"], row["owners"])
    return None


def _target(rows: Rows) -> Target | None:
    return next((_as_target(row) for row in rows), None)


def _as_target(row: Row) -> Target:
    return Target(row["id"], State(row["state"]), row["domain"], row["gateway_token"], row.get("seconds_left", 0.0))


def _answer(row: Mapping[str, Any]) -> Configured | None:
    return None if row["answer"] is None else Configured.model_validate(row["answer"])
