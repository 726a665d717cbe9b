"""The function of a plugin: its three routes are the same for every tool, so a folder only names its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shared import web
from shared.api.services import Inventory, Provision, Provisioned, Released
from shared.errors import RequestError, UnauthorizedError
from shared.services import provision as verb
from shared.services.context import ProvisionContext, provision_context_builder, services_key
from shared.services.models import checked_id
from shared.services.own_token import is_own_token


def tool_function(tool: str, *, name: str) -> Callable[..., Any]:
    """Make the function that provides *tool* and is deployed as *name*."""
    return web.function(
        (
            web.Route(f"POST /provision/<instance_id>/{tool}", _provision, _allow, body=Provision),
            # An id of a vendor's may contain a slash, which arrives decoded.
            web.Route(f"DELETE /destroy/<instance_id>/{tool}/<path:resource>", _release, _allow),
            web.Route(f"GET /inventory/{tool}", _inventory, web.bearer(services_key), query=("probe", "cursor")),
        ),
        name=name,
        context=provision_context_builder(tool),
    )


def _allow(call: web.Call, context: ProvisionContext) -> None:
    """Allow the services key, and the instance that the path names, by its own services token: for itself alone (P42)."""
    if web.is_bearer(call.headers, services_key(context)):
        return
    scheme, _, token = call.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not is_own_token(call.path["instance_id"], token.strip(), context):
        raise UnauthorizedError()


def _provision(call: web.Call, context: ProvisionContext) -> Provisioned:
    return verb.provision(checked_id(call.path["instance_id"]), call.body, context)


def _release(call: web.Call, context: ProvisionContext) -> Released:
    return verb.release(checked_id(call.path["instance_id"]), call.path["resource"], context)


def _inventory(call: web.Call, context: ProvisionContext) -> Inventory:
    probe = call.query.get("probe", "false")
    if probe not in ("true", "false"):
        raise RequestError("probe is true or false.", code="invalid_query")
    return verb.inventory(context, probe=probe == "true", cursor=call.query.get("cursor"))
