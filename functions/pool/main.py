"""Read and operate the pool."""

from __future__ import annotations

from uuid import UUID

from shared import web
from shared.api import pool as api
from shared.api.base import NoBody
from shared.errors import NotFoundError, NotYetError
from shared.pool import operate, read
from shared.pool.context import Context, from_environment, pool_key
from shared.pool.lifecycle import Status

_operator = web.bearer(pool_key)


def _working(operation: api.Operation) -> web.Reply:
    """Answer 200 when the operation is over, else 202 and where to follow it."""
    return web.Reply(operation, 202 if operation.status == "running" else 200)


def _kill(call: web.Call, context: Context) -> web.Reply:
    return _working(operate.kill(call.path["id"], context))


def _dismiss(call: web.Call, context: Context) -> web.Reply:
    return _working(operate.kill(call.path["id"], context, only_status=Status.CRASHED))


def _drain(call: web.Call, context: Context) -> web.Reply:
    return _working(operate.drain(call.body, context))


def _replenish(call: web.Call, context: Context) -> web.Reply:
    return _working(operate.replenish(call.body, context))


def _redeploy(call: web.Call, context: Context) -> web.Reply:
    return _working(operate.redeploy(call.path["id"], call.body, context))


def _operation(call: web.Call, context: Context) -> api.Operation:
    try:
        return operate.read_operation(UUID(call.path["id"]), context)
    except ValueError:
        raise NotFoundError("There is no such operation.") from None


def _protect(call: web.Call, context: Context) -> api.AgentDetails:
    operate.set_protected(call.path["id"], context, protected=True)
    return read.agent(call.path["id"], context)


def _unprotect(call: web.Call, context: Context) -> api.AgentDetails:
    operate.set_protected(call.path["id"], context, protected=False)
    return read.agent(call.path["id"], context)


def _not_yet(call: web.Call, context: Context) -> None:
    raise NotYetError()


ROUTES: tuple[web.Route[Context], ...] = (
    # anyone reads numbers
    web.Route("GET /health", lambda call, context: read.health(context), web.anyone),
    web.Route("GET /version", lambda call, context: read.version(), web.anyone),
    web.Route("GET /api/pool/counts", lambda call, context: read.counts(context), web.anyone),
    web.Route("GET /api/pool/info", lambda call, context: read.info(context), web.anyone),
    # operators read
    web.Route(
        "GET /api/pool/agents",
        lambda call, context: read.agents(call.query, context),
        _operator,
        query=("status", "limit", "cursor"),
    ),
    web.Route("GET /api/pool/status", lambda call, context: read.status(context), _operator),
    web.Route("GET /api/pool/instances/<id>", lambda call, context: read.agent(call.path["id"], context), _operator),
    web.Route("GET /api/pool/ticks", lambda call, context: read.ticks(call.query, context), _operator, query=("limit",)),
    web.Route(
        "GET /api/pool/events",
        lambda call, context: read.events(call.query, context),
        _operator,
        query=("instanceId", "limit", "cursor"),
    ),
    web.Route("GET /api/pool/history", _not_yet, _operator),
    web.Route("GET /api/pool/tools", lambda call, context: read.tools(context), _operator),
    web.Route("GET /api/pool/sweeps", lambda call, context: read.sweeps(call.query, context), _operator, query=("limit",)),
    web.Route("GET /api/pool/operations/<id>", _operation, _operator),
    web.Route("GET /api/pool/settings", lambda call, context: operate.read_settings(context), _operator),
    # operators act
    web.Route(
        "PUT /api/pool/settings",
        lambda call, context: operate.put_settings(call.body, context),
        _operator,
        body=api.PutSettings,
    ),
    web.Route(
        "POST /api/pool/reconcile", lambda call, context: operate.reconcile(call.body, context), _operator, body=api.RunTick
    ),
    web.Route("POST /api/pool/replenish", _replenish, _operator, body=api.Replenish),
    web.Route("POST /api/pool/drain", _drain, _operator, body=api.Drain),
    web.Route("POST /api/pool/pause", lambda call, context: operate.pause(call.body, context), _operator, body=api.Pause),
    web.Route("POST /api/pool/resume", lambda call, context: operate.resume(context), _operator, body=NoBody),
    web.Route("POST /api/pool/brake/reset", _not_yet, _operator, body=NoBody),
    web.Route("POST /api/pool/rollout/pause", _not_yet, _operator, body=NoBody),
    web.Route("POST /api/pool/rollout/resume", _not_yet, _operator, body=NoBody),
    web.Route("DELETE /api/pool/instances/<id>", _kill, _operator),
    web.Route("DELETE /api/pool/crashed/<id>", _dismiss, _operator),
    web.Route("POST /api/pool/instances/<id>/redeploy", _redeploy, _operator, body=api.RedeployRequest),
    web.Route("POST /api/pool/instances/<id>/protect", _protect, _operator, body=NoBody),
    web.Route("POST /api/pool/instances/<id>/unprotect", _unprotect, _operator, body=NoBody),
    web.Route("POST /api/pool/instances/<id>/release", _not_yet, _operator, body=NoBody),
    # the instance itself
    web.Route("POST /api/pool/self-destruct", _not_yet, web.anyone, body=api.FromInstance),
    web.Route("POST /api/pool/pending-acceptance/complete", _not_yet, web.anyone, body=api.FromInstance),
    web.Route("POST /api/pool/pending-acceptance/fail", _not_yet, web.anyone, body=api.FromInstance),
)

pool = web.function(ROUTES, name="pool", context=from_environment)
