"""Which tools there are, and which of them have what they need here."""

from __future__ import annotations

from shared import log
from shared.api.services import Registry, Tool
from shared.errors import RemoteError
from shared.services.context import Context
from shared.services.plugins import PLUGINS


def registry(context: Context) -> Registry:
    """List every tool. One whose function does not answer counts as not configured, for nothing can be bought through it."""
    return Registry(tools=[_tool(tool, context) for tool in PLUGINS])


def _tool(tool: str, context: Context) -> Tool:
    kind = PLUGINS[tool].kind
    return Tool(
        id=tool,
        name=kind.title,
        provisioning=["pool"],
        always=kind.always,
        variables=list(kind.variables),
        configured=_is_configured(tool, context),
    )


def _is_configured(tool: str, context: Context) -> bool:
    try:
        return context.tools.is_configured(tool)
    except RemoteError as error:
        log.warning("tool.not_reached", tool=tool, reason=error.message)
        return False
