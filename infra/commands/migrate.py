"""`migrate`: bring both schemas up to date, wherever they are."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from infra.local import dotenv
from infra.migrate import Side, migrate
from infra.problem import Problem
from shared.errors import AppError, DatabaseUnavailableError


def run(arguments: argparse.Namespace) -> int:
    """Migrate what the options, the environment or `.env` name; without an option both sides must be named."""
    settings = {**dotenv.read(Path(".env")), **os.environ}
    asked: dict[Side, str | None] = {"pool": arguments.pool, "services": arguments.services}
    if not any(asked.values()):
        asked = {"pool": settings.get("POOL_DATABASE_URL"), "services": settings.get("SERVICES_DATABASE_URL")}
        for side, url in asked.items():
            if not url:
                raise Problem(f"Name the database of {side}: --{side} URL, or {side.upper()}_DATABASE_URL.")
    for side, url in asked.items():
        if url:
            _migrate(side, url)
    return 0


def _migrate(side: Side, url: str) -> None:
    try:
        applied = migrate(side, url)
    except DatabaseUnavailableError:
        raise Problem(
            f"The database of {side} does not answer at the address given; is it right, and is the server running?"
        ) from None
    except AppError as error:
        raise Problem(f"The database of {side} cannot be migrated: {error.message}") from None
    if not applied:
        print(f"{side}: already up to date")
