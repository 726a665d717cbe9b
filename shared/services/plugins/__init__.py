"""Every plugin, one line each. A plugin's file is imported when it is first asked for, so each function pays for its own only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httpx

from shared.errors import NotConfiguredError
from shared.remote import Retry
from shared.services.plugins.base import Plugin
from shared.settings import Settings, is_present, load


class Kind(Protocol):
    """What a plugin's class tells before there is one: the same facts as `Plugin`, its settings, and how it is built."""

    tool: str
    title: str
    always: bool
    reusable: bool
    variables: tuple[str, ...]
    settings: type[Settings]

    def build(self, settings: Any, *, transport: httpx.BaseTransport | None = None, retry: Retry = Retry()) -> Plugin:
        """Return the plugin that works with *settings*; no call is made."""


@dataclass(frozen=True)
class Registration:
    """One line of the registry: where a plugin lives. Every fact about it has its home in that file (P49)."""

    tool: str
    file: str
    kind_name: str

    @property
    def kind(self) -> Kind:
        """The plugin's class; imports its file."""
        module = importlib.import_module(f"{__name__}.{self.file}")
        return cast(Kind, getattr(module, self.kind_name))

    def is_configured(self, environment: Mapping[str, str] | None = None) -> bool:
        """Whether the settings that it cannot do without have values."""
        return is_present(self.kind.settings, environment)

    def build(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        retry: Retry = Retry(),
    ) -> Plugin:
        """Return the plugin, configured from the environment.

        Raises NotConfiguredError when its key is not set, and SettingsError when a setting is malformed. Makes no call (P18).
        """
        kind = self.kind
        if not is_present(kind.settings, environment):
            raise NotConfiguredError(f"The tool {self.tool} has no credentials here, so nothing was bought.")
        return kind.build(load(kind.settings, environment), transport=transport, retry=retry)


_REGISTRATIONS = (
    Registration("openrouter", "openrouter", "OpenRouter"),
    Registration("wallet", "wallet", "Wallet"),
    Registration("email", "agentmail", "AgentMail"),
    Registration("sms", "telnyx", "Telnyx"),
    Registration("crypto", "bankr", "Bankr"),
)

PLUGINS: Mapping[str, Registration] = {registration.tool: registration for registration in _REGISTRATIONS}
"""Tool → where it lives, in the order in which an instance is given its tools."""
