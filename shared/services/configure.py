"""The fenced hand-over: introduce an instance to its caller once, under a generation, and keep what it answered.

*Sent* is recorded before anything is sent, by one conditional statement. After that, whatever happens, this generation never
sends again; what became of it is told by `settle`. Without a model or variables it costs two statements and one call.
"""

from __future__ import annotations

import time

from pydantic import SecretStr

from shared import log
from shared.api.services import Configure, Configured, HandOver
from shared.errors import AppError, ConflictError, NotFoundError, RemoteError, RemoteUnavailableError
from shared.services.context import Context
from shared.services.models import State, checked_id
from shared.services.runtime import SYSTEM, Provision, Provisioned, Verdict
from shared.services.store import hand_overs
from shared.services.store.hand_overs import Standing, Target

LONGEST_SECONDS = 60.0
SHORTEST_SECONDS = 1.0
VARIABLES = "variables"
"""The capability to take a model and variables together with the introduction."""
_LOOK_AGAIN_SECONDS = 0.2


def configure(instance_id: str, request: Configure, context: Context) -> Configured:
    """Introduce the instance and return its answer; a repeated call returns the answer that was kept.

    ConflictError `fenced`: the generation was sent before, or is closed, or its time is over, and nothing was sent now.
    ConflictError `no_capability`: the instance cannot take a model or variables, and was told nothing. RemoteError
    `runtime_failed`: it did not take the introduction, or may have; the caller settles.
    """
    checked_id(instance_id)
    travels = True
    if request.variables or request.model is not None:
        standing = _standing(instance_id, request, context)
        if not standing.open:
            return _kept_answer(standing)
        travels = _take_variables(standing.target, context)
    target = hand_overs.record_sent(
        context.db,
        instance_id,
        claim_id=request.claim_id,
        generation=request.generation,
        not_after=request.not_after,
        joining=request.join_url is not None,
    )
    if target is None:
        return _kept_answer(_standing(instance_id, request, context))
    answer = _send(target, request, context, travels=travels)
    if not hand_overs.record_answer(context.db, instance_id, generation=request.generation, answer=answer):
        log.warning("hand_over.answered_late", instance_id=instance_id, generation=request.generation)
        raise _fenced("This introduction was closed before the instance answered it.")
    log.info("instance.introduced", instance_id=instance_id, generation=request.generation, status=answer.status.value)
    return answer


def _standing(instance_id: str, request: Configure, context: Context) -> Standing:
    standing = hand_overs.read_standing(context.db, instance_id, claim_id=request.claim_id, generation=request.generation)
    if standing is None:
        raise NotFoundError("There is no instance of that id.")
    return standing


def _take_variables(target: Target, context: Context) -> bool:
    """Whether a model and variables travel with the introduction to this image. Asked before *sent* is recorded."""
    health = context.runtime.health(*_address(target, context))
    if health.verdict is not Verdict.READY:
        raise _failed(RemoteUnavailableError(SYSTEM, "an introduction", "is not ready", never_sent=True))
    return VARIABLES in health.capabilities


def _kept_answer(standing: Standing) -> Configured:
    """Return what the instance answered to this claim before, or say why nothing may be sent."""
    if standing.target.state in (State.DESTROYING, State.DESTROYED):
        raise ConflictError("That instance was destroyed.", code="destroyed")
    if standing.answer is not None:
        return standing.answer
    raise _fenced(_why(standing))


def _why(standing: Standing) -> str:
    if standing.closed:
        return "This introduction was closed: it can no longer be sent."
    if standing.sent:
        return "An introduction of this generation, or of a later one, was sent already."
    if standing.target.state is State.CREATING:
        return "That instance is still being built."
    if standing.busy:
        return "That instance is being reset or deployed anew."
    return "The time in which this introduction could be sent is over."


def _send(target: Target, request: Configure, context: Context, *, travels: bool) -> Configured:
    """Send the introduction. What certainly told the instance nothing is withdrawn, so that it settles as never sent."""
    ends_at = time.monotonic() + min(max(target.seconds_left, SHORTEST_SECONDS), LONGEST_SECONDS)
    told = False
    try:
        url, token = _address(target, context)
        if not travels:
            told = _restart(url, token, request, context, ends_at=ends_at)
        body = _body(request, with_variables=travels)
        left = max(ends_at - time.monotonic(), SHORTEST_SECONDS)
        return _configured(context.runtime.provision(url, token, body=body, timeout_seconds=left))
    except RemoteError as error:
        if error.code == "already_bound":
            hand_overs.record_refused(context.db, target.id, generation=request.generation)
        elif error.never_sent and not told:
            hand_overs.withdraw(context.db, target.id, generation=request.generation)
        raise _failed(error) from error
    except AppError:
        hand_overs.withdraw(context.db, target.id, generation=request.generation)
        raise


def _restart(url: str, token: SecretStr, request: Configure, context: Context, *, ends_at: float) -> bool:
    """Give the model and variables by a restart and wait until the agent is back; True: it has been told something."""
    agreed = context.runtime.restart(url, token, _environment(request))
    if agreed is None:
        raise ConflictError("That instance's image can take neither a model nor variables.", code="no_capability")
    if not agreed:
        raise RemoteUnavailableError(SYSTEM, "a restart", "did not agree")
    while context.runtime.health(url, token).verdict is not Verdict.READY:
        if time.monotonic() + _LOOK_AGAIN_SECONDS > ends_at:
            raise RemoteUnavailableError(SYSTEM, "a restart", "did not come back in time")
        time.sleep(_LOOK_AGAIN_SECONDS)
    return True


def _environment(request: Configure) -> dict[str, SecretStr]:
    variables = {name: SecretStr(value) for name, value in (request.variables or {}).items()}
    return variables if request.model is None else {**variables, "OPENCLAW_PRIMARY_MODEL": SecretStr(request.model)}


def _body(request: Configure, *, with_variables: bool) -> Provision:
    return Provision(
        agent_name=request.agent_name,
        instructions=request.instructions,
        join_url=request.join_url,
        metadata=request.metadata,
        model=request.model if with_variables else None,
        variables={name: SecretStr(value) for name, value in (request.variables or {}).items()} if with_variables else None,
    )


def _configured(answer: Provisioned) -> Configured:
    return Configured(
        conversation_id=answer.conversation_id,
        invite_url=answer.invite_url,
        joined=answer.joined,
        status=HandOver(answer.status.value),
    )


def _address(target: Target, context: Context) -> tuple[str, SecretStr]:
    return target.address(context.ring, template=context.settings.instance_url_template)


def _fenced(message: str) -> ConflictError:
    return ConflictError(message, code="fenced")


def _failed(error: RemoteError) -> RemoteError:
    """The same failure, told to our caller as one of the instance."""
    return RemoteError(
        SYSTEM,
        "an introduction",
        "did not take it",
        http_status=error.http_status,
        never_sent=error.never_sent,
        code="runtime_failed",
        details={"reason": error.message},
    )
