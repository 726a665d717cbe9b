"""Keep the pool full and honest: on a schedule, or for a few instances on a hint."""

from __future__ import annotations

from datetime import UTC, datetime

from shared import web
from shared.api.pool import ObserveRequest, RunTick, TickResult
from shared.pool import tick as verb
from shared.pool.context import Context, from_environment, services_key

_allow = web.bearer(services_key)


def _tick(call: web.Call, context: Context) -> TickResult:
    return verb.tick(call.body, context, now=datetime.now(UTC))


def _observe(call: web.Call, context: Context) -> TickResult:
    return verb.observe_some(call.body, context, now=datetime.now(UTC))


tick = web.function(
    (
        web.Route("POST /tick", _tick, _allow, body=RunTick),
        web.Route("POST /observe", _observe, _allow, body=ObserveRequest),
    ),
    name="tick",
    context=from_environment,
)
