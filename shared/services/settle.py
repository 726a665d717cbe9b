"""Settle an introduction whose outcome its sender does not know, and bring an instance back to its factory state.

Settling closes the generation first and looks afterwards: what it answers cannot be overtaken by a late sender (P2, P3).
"""

from __future__ import annotations

import uuid

from pydantic import SecretStr

from shared import log
from shared.api.services import Cleaned, Configured, Introduction, Reset, Settle, Settled
from shared.api.services import HandOver as Outcome
from shared.errors import ConflictError, NotFoundError, RemoteError
from shared.services.context import Context
from shared.services.models import State, checked_id
from shared.services.runtime import SYSTEM
from shared.services.store import hand_overs
from shared.services.store.hand_overs import HandOver, Target


def settle(instance_id: str, request: Settle, context: Context) -> Settled:
    """Close the generation for good, and tell whether the instance was introduced under it. Twice gives the same, or more.

    `never`: certainly nothing was sent. `bound`: it has a conversation of this introduction. `maybe`: it may have been told,
    and may still join; only a reset and a proof of clean make it usable again (P4).
    """
    checked_id(instance_id)
    target = hand_overs.close(context.db, instance_id, generation=request.generation)
    if target is None:
        raise NotFoundError("There is no instance of that id.")
    if target.state in (State.DESTROYING, State.DESTROYED):
        raise ConflictError("That instance was destroyed.", code="destroyed")
    sent = hand_overs.read_hand_over(context.db, instance_id, generation=request.generation)
    if sent is None:
        return Settled(introduced=Introduction.NEVER)
    answer = sent.answer or _found(target, sent, request, context)
    log.info("hand_over.settled", instance_id=instance_id, generation=request.generation, bound=answer is not None)
    if answer is None:
        return Settled(introduced=Introduction.MAYBE)
    return Settled(
        introduced=Introduction.BOUND,
        conversation_id=answer.conversation_id,
        invite_url=answer.invite_url,
        joined=answer.joined,
        status=answer.status,
    )


def _found(target: Target, sent: HandOver, request: Settle, context: Context) -> Configured | None:
    """Ask the runtime for the conversation that nobody told us of, and keep it as the introduction's answer.

    An instance that said that it was bound already has somebody else's. Silence and old images prove nothing.
    """
    if sent.refused:
        return None
    try:
        status = context.runtime.status(*_address(target, context))
    except RemoteError as error:
        log.warning("conversation.not_told", instance_id=target.id, reason=error.message)
        return None
    if status is None or status.conversation_id is None:
        return None
    answer = Configured(
        conversation_id=status.conversation_id,
        invite_url=status.invite_url,
        joined=sent.joining,
        status=Outcome.JOINED if sent.joining else Outcome.CREATED,
    )
    if hand_overs.record_answer(context.db, target.id, generation=request.generation, answer=answer, although_closed=True):
        return answer
    # Somebody who settles at the same time kept it first, or a newer introduction or a reset has made it void.
    latest = hand_overs.read_hand_over(context.db, target.id, generation=request.generation)
    return latest.answer if latest is not None else None


def reset(instance_id: str, request: Reset, context: Context) -> Cleaned:
    """Reset the instance and tell whether it proves to be clean; None when its image cannot tell. Repeating does no harm.

    Only the newest generation may, and only once it is closed: anything else is ConflictError `fenced`, as is a reset while
    somebody works on the instance. RemoteError `runtime_failed`: nothing is proven; try again.
    """
    checked_id(instance_id)
    worker = uuid.uuid4()
    target = hand_overs.begin_reset(
        context.db,
        instance_id,
        generation=request.generation,
        worker=worker,
        lease_seconds=context.settings.worker_lease_seconds,
    )
    if target is None:
        raise _why_not(instance_id, context)
    clean: bool | None = None
    try:
        clean = _cleaned(*_address(target, context), context)
    except RemoteError as error:
        raise RemoteError(SYSTEM, "a reset", "did not prove that it is clean", code="runtime_failed") from error
    finally:
        hand_overs.finish_reset(context.db, instance_id, worker=worker, clean=clean)
    log.info("instance.reset", instance_id=instance_id, generation=request.generation, clean=clean)
    return Cleaned(clean=clean)


def _cleaned(url: str, token: SecretStr, context: Context) -> bool | None:
    done = context.runtime.reset(url, token)
    if not done:
        return done
    status = context.runtime.status(url, token)
    return None if status is None else status.clean


def _why_not(instance_id: str, context: Context) -> Exception:
    target = hand_overs.read_target(context.db, instance_id)
    if target is None:
        return NotFoundError("There is no instance of that id.")
    if target.state in (State.DESTROYING, State.DESTROYED):
        return ConflictError("That instance was destroyed.", code="destroyed")
    return ConflictError(
        "Only the newest introduction may be reset, once it is closed and nobody works on the instance.", code="fenced"
    )


def _address(target: Target, context: Context) -> tuple[str, SecretStr]:
    return target.address(context.ring, template=context.settings.instance_url_template)
