"""Hand a warm instance to a caller. No vendor is on this path (P9): two statements here, one call to the services side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID, uuid4

from shared import log
from shared.api.pool import Claimed, ClaimRecord, ClaimRequest
from shared.api.services import Configured, Introduction, Settled
from shared.budget import Budget
from shared.errors import NoIdleInstanceError, NotFoundError, NotYetError, RemoteError
from shared.pool import settle, store
from shared.pool.context import Context
from shared.pool.models import Supply, Taken
from shared.pool.services_api import introduction
from shared.pool.settings import ATTEMPT_SECONDS

LEAST_SECONDS_FOR_ANOTHER = 10.0
"""A new attempt starts only with so much time left."""

PAUSED_RETRY_SECONDS = 60.0
BUSY_PAUSE_SECONDS = 0.02
BUSY_TRIES = 25
"""Idle rows that another statement holds for a moment are waited for so often before a caller hears that there is none."""


class ProvisionFailedError(RemoteError):
    """Every instance that was tried failed to take the introduction."""

    default_code = "provision_failed"

    def __init__(self, claim_id: UUID, tried: int) -> None:
        noun = "instance" if tried == 1 else "instances"
        super().__init__("the runtime", "the introduction", details={"claimId": str(claim_id), "tried": tried})
        self.message = f"The {tried} {noun} tried could not be introduced; ask again. The claim's record tells more."


@dataclass(frozen=True)
class _Attempt:
    """What one attempt led to: an answer, or whether the next instance may be tried."""

    answer: Configured | Settled | None
    may_try_next: bool = False
    settled: bool = True
    """False while it is not known what became of it: then the claim stays open, and the tick completes or fails it."""


def claim(request: ClaimRequest, context: Context, *, idempotency_key: str | None) -> Claimed:
    """Reserve an idle instance under a lease, introduce it to the caller, and record the outcome.

    A failed instance is settled and set aside, and the next one is tried while time is left. Killed at any line, the tick
    finds the row in `claiming` and settles it after the lease. Raises NoIdleInstanceError or ProvisionFailedError.
    """
    _refuse_what_is_not_built(request, idempotency_key)
    claim_id = uuid4()
    budget = Budget(context.settings.claim_timeout_seconds)
    tried: list[Taken] = []
    while True:
        taken = _take(claim_id, request, context, budget=budget, tried=tried)
        if taken is None:
            break
        tried.append(taken)
        attempt = _introduce(taken, claim_id, request, context, budget=budget)
        if attempt.answer is not None:
            return _answer(attempt.answer, taken, claim_id, request)
        if not attempt.settled:
            raise ProvisionFailedError(claim_id, len(tried))
        if not attempt.may_try_next or budget.left() < LEAST_SECONDS_FOR_ANOTHER:
            break
    last = tried[-1]
    store.fail_claim(context.db, claim_id, last.id, last.generation, problem="the instances tried could not be introduced")
    log.warning("claim.failed", claim_id=str(claim_id), tried=len(tried))
    raise ProvisionFailedError(claim_id, len(tried))


def read_claim(claim_id: str, context: Context) -> ClaimRecord:
    """Return the record of a claim."""
    if claim_id.startswith("key:"):
        raise NotYetError("Idempotency keys are not kept yet: name the claim by its claimId.")
    try:
        row = store.read_claim(context.db, UUID(claim_id))
    except ValueError:
        row = None
    if row is None:
        raise NotFoundError("There is no such claim.")
    return ClaimRecord.model_validate({**row, "claim_id": str(row["id"])})


def _refuse_what_is_not_built(request: ClaimRequest, idempotency_key: str | None) -> None:
    if idempotency_key is not None:
        raise NotYetError("Idempotency-Key is not supported yet: send the claim without it.")
    if request.wait_seconds:
        raise NotYetError("waitSeconds is not supported yet: leave it out, and ask again when told that nothing is idle.")
    if request.template_id is not None:
        raise NotFoundError("There is no such template.", code="template_not_found")


def _take(claim_id: UUID, request: ClaimRequest, context: Context, *, budget: Budget, tried: list[Taken]) -> Taken | None:
    """Take the next instance; None when those tried were the last. Raises NoIdleInstanceError when there was none at all."""
    excluded = [taken.id for taken in tried]
    for _ in range(BUSY_TRIES):
        send_seconds = max(1.0, min(budget.left(), ATTEMPT_SECONDS))
        lease_seconds = context.settings.claim_lease_seconds
        taken = store.take_idle(
            context.db, claim_id, request, send_seconds=send_seconds, lease_seconds=lease_seconds, excluded=excluded
        )
        if taken is not None:
            return taken
        supply = store.look_at_supply(context.db, excluded=excluded)
        if supply.idle == 0:
            break
        time.sleep(BUSY_PAUSE_SECONDS)
    if tried:
        return None
    raise _none_idle(supply)


def _none_idle(supply: Supply) -> NoIdleInstanceError:
    if supply.estimated_seconds is None:
        message = "No idle instance is left, and creating is paused: an operator has to resume it."
        return NoIdleInstanceError(message, details={"estimatedReadySeconds": None}, retry_after_seconds=PAUSED_RETRY_SECONDS)
    seconds = round(supply.estimated_seconds)
    return NoIdleInstanceError(
        f"No idle instance is left; one is expected in about {seconds} s.",
        details={"estimatedReadySeconds": seconds},
        retry_after_seconds=seconds,
    )


def _introduce(taken: Taken, claim_id: UUID, request: ClaimRequest, context: Context, *, budget: Budget) -> _Attempt:
    body = introduction(
        taken,
        str(claim_id),
        agent_name=request.agent_name,
        instructions=request.instructions,
        join_url=request.join_url,
        model=request.model,
        metadata=request.metadata,
    )
    timeout_seconds = max(1.0, min(budget.left(), ATTEMPT_SECONDS))
    try:
        answer = context.services.configure(taken, body, timeout_seconds=timeout_seconds)
    except RemoteError as error:
        log.warning("introduction.failed", instance_id=taken.id, claim_id=str(claim_id), reason=error.message)
        return _settle(taken, claim_id, error, context)
    if store.complete_claim(context.db, taken.id, taken.generation, answer, actor="claim"):
        return _Attempt(answer)
    return _lost_race(answer, taken, claim_id, context)


def _settle(taken: Taken, claim_id: UUID, error: RemoteError, context: Context) -> _Attempt:
    """Learn what became of a failed introduction. While that cannot be learnt, the row stays as it is, for the tick."""
    try:
        settled = settle.settle(taken.id, taken.generation, claim_id, context, problem=error, actor="claim")
    except RemoteError as unsettled:
        log.warning("lease.unsettled", instance_id=taken.id, claim_id=str(claim_id), reason=unsettled.message)
        return _Attempt(None, settled=False)
    if settled.introduced is Introduction.BOUND:
        return _lost_race(settled, taken, claim_id, context)
    row = store.read_claim(context.db, claim_id)
    return _Attempt(None, may_try_next=row is not None and row["status"] == "open")


def _lost_race(answer: Configured | Settled, taken: Taken, claim_id: UUID, context: Context) -> _Attempt:
    """Another process may have recorded the same success; a kill in between is a failure that the caller sees (P8)."""
    row = store.read_claim(context.db, claim_id)
    recorded = row is not None and row["status"] in ("claimed", "pending_acceptance") and row["generation"] == taken.generation
    if recorded:
        return _Attempt(answer)
    log.warning("claim.overtaken", instance_id=taken.id, claim_id=str(claim_id))
    return _Attempt(None, may_try_next=row is not None and row["status"] == "open")


def _answer(answer: Configured | Settled, taken: Taken, claim_id: UUID, request: ClaimRequest) -> Claimed:
    pending = answer.status == "pending_acceptance"
    log.info("instance.claimed", instance_id=taken.id, claim_id=str(claim_id))
    return Claimed(
        claim_id=str(claim_id),
        instance_id=taken.id,
        status="pending_acceptance" if pending else "claimed",
        conversation_id=answer.conversation_id,
        invite_url=answer.invite_url,
        joined=answer.joined,
        agent_name=request.agent_name,
        gateway_url=taken.url or "",
        template_id=request.template_id,
    )
