"""What a verb of the pool side receives, and how it is built from the environment, once per process."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from shared.db import Database
from shared.pool.services_api import ServicesApi
from shared.pool.settings import PoolSettings
from shared.pool.tick_api import TickApi
from shared.settings import load


@dataclass(frozen=True)
class Context:
    """Database, the other side, the tick, and the settings."""

    db: Database
    services: ServicesApi
    tick: TickApi
    settings: PoolSettings


def from_environment() -> Context:
    """Build the context of a deployed function; SettingsError names what is missing."""
    settings = load(PoolSettings)
    return Context(
        db=Database(settings.pool_database_url),
        services=ServicesApi(settings.services_url, settings.services_api_key),
        tick=TickApi(settings.pool_url or settings.services_url, settings.services_api_key),
        settings=settings,
    )


def pool_key(context: Context) -> SecretStr:
    """Return the key of callers and operators."""
    return context.settings.pool_api_key


def services_key(context: Context) -> SecretStr:
    """Return the key that the two sides share."""
    return context.settings.services_api_key
