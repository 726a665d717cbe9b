"""Turns at what only one process may do at a time, by name. A killed holder's turn runs out."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from shared.db import Session, load_queries

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))


def take(db: Session, name: str, *, holder: UUID, seconds: float) -> bool:
    """Take the turn; False while somebody else has it."""
    return bool(db.run(QUERIES["take"], name=name, holder=holder, seconds=seconds))


def end(db: Session, name: str, *, holder: UUID) -> None:
    """End the turn; one that ran out and is another's by now stays."""
    db.run(QUERIES["end"], name=name, holder=holder)
