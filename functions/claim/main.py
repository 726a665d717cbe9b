"""Hand a warm instance to a caller."""

from __future__ import annotations

from shared import web
from shared.api.pool import Claimed, ClaimRecord, ClaimRequest
from shared.errors import NotYetError
from shared.pool import claim as verb
from shared.pool.context import Context, from_environment, pool_key

_allow = web.bearer(pool_key)


def _claim(call: web.Call, context: Context) -> Claimed:
    return verb.claim(call.body, context, idempotency_key=call.headers.get("Idempotency-Key"))


def _read(call: web.Call, context: Context) -> ClaimRecord:
    return verb.read_claim(call.path["claim_id"], context)


def _cancel(call: web.Call, context: Context) -> None:
    raise NotYetError("Cancelling a claim is not supported yet: kill its instance instead.")


claim = web.function(
    (
        web.Route("POST /api/pool/claim", _claim, _allow, body=ClaimRequest),
        web.Route("GET /api/pool/claims/<claim_id>", _read, _allow),
        web.Route("DELETE /api/pool/claims/<claim_id>", _cancel, _allow),
    ),
    name="claim",
    context=from_environment,
)
