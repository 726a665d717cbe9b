"""The life of instances: build, watch, introduce, take down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from shared import web
from shared.api import services as api
from shared.errors import RequestError
from shared.services import configure, image, limits, observe, redeploy, registry, resources, settle, sweep, verify
from shared.services import create as creation
from shared.services import destroy as destruction
from shared.services.context import Context, from_environment, services_key
from shared.services.models import checked_id

Handler = Callable[[web.Call, Context], BaseModel]
_allow: Callable[[web.Call, Context], None] = web.bearer(services_key)
_DEFAULT_DEADLINE_SECONDS = 20.0
_LONGEST_DEADLINE_SECONDS = 300.0


def _id(call: web.Call) -> str:
    return checked_id(call.path["instance_id"])


def _working(answer: api.Created | api.Destroyed | api.Working) -> web.Reply:
    """Answer 200 when it is finished, else 202."""
    return web.Reply(answer, 202 if isinstance(answer, api.Working) else 200)


def _deadline(call: web.Call) -> float:
    text = call.query.get("deadlineSeconds")
    try:
        seconds = _DEFAULT_DEADLINE_SECONDS if text is None else float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_DEADLINE_SECONDS:
        raise RequestError("deadlineSeconds is a number above 0, up to 300.", code="invalid_query")
    return seconds


def _create(call: web.Call, context: Context) -> web.Reply:
    return _working(creation.create_instance(call.body, context))


def _destroy(call: web.Call, context: Context) -> web.Reply:
    return _working(destruction.destroy(_id(call), context, deadline_seconds=_deadline(call)))


def _resources(call: web.Call, context: Context) -> api.Resources:
    return resources.resources(_id(call), context)


def _on_instance(verb: Callable[[str, Any, Context], BaseModel]) -> Handler:
    return lambda call, context: verb(_id(call), call.body, context)


def _with_body(verb: Callable[[Any, Context], BaseModel]) -> Handler:
    return lambda call, context: verb(call.body, context)


def _alone(verb: Callable[[Context], BaseModel]) -> Handler:
    return lambda call, context: verb(context)


instances = web.function(
    (
        web.Route("POST /create-instance", _create, _allow, body=api.CreateInstance),
        web.Route("DELETE /destroy/<instance_id>", _destroy, _allow, query=("deadlineSeconds",)),
        web.Route("POST /redeploy/<instance_id>", lambda c, x: redeploy.redeploy(_id(c), c.body, x), _allow, body=api.Redeploy),
        web.Route(
            "POST /configure/<instance_id>", lambda c, x: configure.configure(_id(c), c.body, x), _allow, body=api.Configure
        ),
        web.Route("POST /settle/<instance_id>", lambda c, x: settle.settle(_id(c), c.body, x), _allow, body=api.Settle),
        web.Route("POST /reset/<instance_id>", lambda c, x: settle.reset(_id(c), c.body, x), _allow, body=api.Reset),
        web.Route("POST /verify/<instance_id>", lambda c, x: verify.verify(_id(c), c.body, x), _allow, body=api.Verify),
        web.Route("POST /status/batch", lambda c, x: observe.status_batch(c.body, x), _allow, body=api.StatusBatch),
        web.Route("POST /sweep", lambda c, x: sweep.sweep(c.body, x), _allow, body=api.Sweep),
        web.Route("GET /resources/<instance_id>", lambda c, x: resources.resources(_id(c), x), _allow),
        web.Route("GET /registry", lambda c, x: registry.registry(x), _allow),
        web.Route("GET /limits", lambda c, x: limits.limits(x), _allow),
        web.Route("GET /image", lambda c, x: image.get_image(x), _allow),
        web.Route("PUT /image", lambda c, x: image.put_image(c.body, x), _allow, body=api.PutImage),
    ),
    name="instances",
    context=from_environment,
)
