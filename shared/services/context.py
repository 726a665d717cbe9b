"""What a verb of the services side receives, and how it is built from the environment, once per process.

The function `instances` has a `Context`, the function of a plugin a `ProvisionContext`. What only one of them needs is imported
when it is built, so the function of a plugin never loads the hosting, nor the key of any vendor but its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import SecretStr

from shared.db import Database
from shared.errors import NotConfiguredError
from shared.services.plugins import PLUGINS
from shared.services.plugins.base import Plugin
from shared.services.sealing import Ring, parse_ring
from shared.services.settings import CommonSettings, ProvisionSettings, ServicesSettings
from shared.settings import load

if TYPE_CHECKING:
    from shared.services.hosting.base import Host
    from shared.services.hosting.images import ImageRegistry
    from shared.services.runtime import RuntimeClient
    from shared.services.tools_api import ToolsApi


@dataclass(frozen=True)
class Context:
    """For the life of instances: database, keys, the host, the image registry, running instances, the plugins' functions."""

    db: Database
    settings: ServicesSettings
    ring: Ring
    host: Host
    images: ImageRegistry
    runtime: RuntimeClient
    tools: ToolsApi


@dataclass(frozen=True)
class ProvisionContext:
    """For one plugin: database, keys, and the plugin itself, or None when its vendor's key is not set."""

    db: Database
    settings: ProvisionSettings
    ring: Ring
    tool: str
    plugin: Plugin | None = field(repr=False)


def from_environment(environment: Mapping[str, str] | None = None) -> Context:
    """Build the context of `instances`; SettingsError names what is missing or malformed. Makes no call (P18)."""
    from shared.services import tools_api
    from shared.services.hosting.images import GhcrSettings, ImageRegistry
    from shared.services.hosting.railway import RailwayApi, RailwaySettings
    from shared.services.hosting.topology import make_host
    from shared.services.runtime import RuntimeClient

    settings = load(ServicesSettings, environment)
    railway = load(RailwaySettings, environment)
    return Context(
        db=_database(settings),
        settings=settings,
        ring=parse_ring(settings.instance_secrets_key),
        host=make_host(railway, RailwayApi(railway)),
        images=ImageRegistry(load(GhcrSettings, environment)),
        runtime=RuntimeClient(
            health_timeout_seconds=settings.health_timeout_seconds, max_connections=settings.health_concurrency + 20
        ),
        tools=tools_api.make(settings.services_url, settings.services_api_key),
    )


def provision_context(tool: str, environment: Mapping[str, str] | None = None) -> ProvisionContext:
    """Build the context of the function of *tool*. A malformed setting raises; a missing vendor key does not."""
    settings = load(ProvisionSettings, environment)
    try:
        plugin = PLUGINS[tool].build(environment)
    except NotConfiguredError:
        plugin = None
    return ProvisionContext(
        db=_database(settings), settings=settings, ring=parse_ring(settings.instance_secrets_key), tool=tool, plugin=plugin
    )


def provision_context_builder(tool: str) -> Callable[[], ProvisionContext]:
    """Return what builds the context of *tool*'s function at its first request."""
    return lambda: provision_context(tool)


def services_key(context: Context | ProvisionContext) -> SecretStr:
    """Return the key with which the services side is called."""
    return context.settings.services_api_key


def _database(settings: CommonSettings) -> Database:
    return Database(settings.services_database_url)
