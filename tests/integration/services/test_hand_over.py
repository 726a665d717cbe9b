"""The fenced hand-over: whatever is late, repeated or lost, one introduction reaches an instance at most once."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from infra.runtime.agent import Mode
from shared.api.services import (
    Cleaned,
    Configure,
    Configured,
    HandOver,
    Introduction,
    Redeploy,
    Reset,
    Settle,
    Settled,
    Verify,
)
from shared.errors import AppError, ConflictError, NotFoundError, RemoteError, RequestError
from shared.services import configure as configuring
from shared.services import redeploy, settle, verify
from tests.integration.services.stage import Stage, a_hand_over, token_of


def hand_over(stage: Stage, generation: int = 1, claim_id: str = "claim-1", **fields: Any) -> Configured:
    return configuring.configure("a", a_hand_over(generation, claim_id, **fields), stage.context)


def settled(stage: Stage, generation: int = 1) -> Settled:
    return settle.settle("a", Settle(generation=generation), stage.context)


def reset(stage: Stage, generation: int = 1) -> Cleaned:
    return settle.reset("a", Reset(generation=generation), stage.context)


def refused(stage: Stage, generation: int = 1, claim_id: str = "claim-1", **fields: Any) -> AppError:
    with pytest.raises(AppError) as caught:
        hand_over(stage, generation, claim_id, **fields)
    return caught.value


def told(stage: Stage) -> list[str | None]:
    return [heard.instructions for heard in stage.agent("a").heard if heard.instructions is not None]


def test_an_introduction_costs_two_statements_and_one_call(stage: Stage) -> None:
    """P9."""
    stage.build("a")
    hand_over_before = stage.db.statements
    calls = len(stage.railway.calls)

    answer = hand_over(stage)

    assert answer.status is HandOver.CREATED
    assert answer.conversation_id
    assert stage.db.statements - hand_over_before == 2
    assert stage.agent("a").operations() == ["provision"]
    assert len(stage.railway.calls) == calls


def test_a_repeated_call_returns_the_answer_and_sends_nothing(stage: Stage) -> None:
    """P6."""
    stage.build("a")
    first = hand_over(stage)

    assert hand_over(stage) == first
    assert hand_over(stage, generation=2) == first, "the claim is the same"
    assert told(stage) == ["Serve claim-1."]


def test_a_join_that_waits_for_its_approval_is_kept_as_such(stage: Stage) -> None:
    """P7."""
    stage.build("a")
    answer = hand_over(stage, join_url="https://invites.example/pending")

    assert (answer.status, answer.conversation_id, answer.joined) == (HandOver.PENDING_ACCEPTANCE, None, False)
    assert hand_over(stage, join_url="https://invites.example/pending") == answer
    assert settled(stage).introduced is Introduction.BOUND
    assert settled(stage).status is HandOver.PENDING_ACCEPTANCE


def test_two_calls_at_once_send_once(stage: Stage) -> None:
    stage.build("a")
    stage.agent("a").provision_seconds = 0.1
    outcomes: list[Configured | AppError] = []

    def call() -> None:
        try:
            outcomes.append(hand_over(stage))
        except AppError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told(stage) == ["Serve claim-1."]
    assert all(outcome.code == "fenced" for outcome in outcomes if isinstance(outcome, ConflictError))
    assert any(isinstance(outcome, Configured) for outcome in outcomes)


def test_of_two_claims_at_once_the_instance_hears_one(stage: Stage) -> None:
    """Promise 1: generations are ordered by the row's lock, whichever comes first."""
    stage.build("a")
    start = threading.Barrier(4, timeout=10)

    def call(generation: int) -> None:
        start.wait()
        with contextlib.suppress(AppError):
            hand_over(stage, generation, f"claim-{generation}")

    threads = [threading.Thread(target=call, args=(generation,)) for generation in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(told(stage)) == 1


def test_a_lower_generation_is_fenced(stage: Stage) -> None:
    stage.build("a")
    hand_over(stage, generation=5)

    assert refused(stage, generation=4, claim_id="other").code == "fenced"
    assert told(stage) == ["Serve claim-1."]


def test_after_its_last_moment_nothing_is_sent(stage: Stage) -> None:
    stage.build("a")

    error = refused(stage, not_after=datetime.now(UTC) - timedelta(seconds=1))

    assert error.code == "fenced"
    assert settled(stage).introduced is Introduction.NEVER
    assert told(stage) == []


def test_a_closed_generation_never_sends_again(stage: Stage) -> None:
    """P2, P3: who settles first knows for good."""
    stage.build("a")

    assert settled(stage, generation=3).introduced is Introduction.NEVER
    assert refused(stage, generation=3).code == "fenced"
    assert refused(stage, generation=2).code == "fenced"
    assert told(stage) == []
    assert hand_over(stage, generation=4).conversation_id


def test_a_closed_introduction_that_was_answered_is_bound_and_can_be_asked_again(stage: Stage) -> None:
    """P6."""
    stage.build("a")
    answer = hand_over(stage)

    outcome = settled(stage)

    assert outcome.introduced is Introduction.BOUND
    assert (outcome.conversation_id, outcome.invite_url) == (answer.conversation_id, answer.invite_url)
    assert hand_over(stage) == answer


def test_a_lost_answer_is_found_in_the_instance(stage: Stage) -> None:
    """P2: the runtime is asked what happened; the answer is kept from then on."""
    stage.build("a")
    stage.agent("a").fail("provision", "lose")

    assert refused(stage).code == "runtime_failed"
    assert refused(stage).code == "fenced", "it is not sent twice"
    outcome = settled(stage)

    assert outcome.introduced is Introduction.BOUND
    assert outcome.conversation_id
    assert outcome.status is HandOver.CREATED
    assert hand_over(stage).conversation_id == outcome.conversation_id
    assert told(stage) == ["Serve claim-1."]


def test_a_lost_answer_of_a_join_is_a_join(stage: Stage) -> None:
    stage.build("a")
    stage.agent("a").fail("provision", "lose")
    refused(stage, join_url="https://invites.example/abc")

    assert settled(stage).status is HandOver.JOINED
    assert settled(stage).joined is True


def test_an_agent_that_joins_minutes_later_was_maybe_introduced(stage: Stage) -> None:
    """P4."""
    stage.build("a")
    stage.agent("a").late_seconds = 300
    refused(stage)

    assert settled(stage).introduced is Introduction.MAYBE


@pytest.mark.parametrize("mode", ["silent", "old", "error"])
def test_what_the_instance_cannot_tell_is_maybe(stage: Stage, mode: str) -> None:
    """P3."""
    stage.build("a", image="ghcr.io/convos/agent:old" if mode == "old" else "ghcr.io/convos/agent:new")
    stage.agent("a").fail("provision", "lose")
    refused(stage)
    if mode == "silent":
        stage.agent("a").mode = Mode.CRASHED
    if mode == "error":
        stage.agent("a").fail("status", "refuse", status=500, times=None)

    assert settled(stage).introduced is Introduction.MAYBE


def test_an_instance_that_was_bound_to_another_is_not_bound_to_us(stage: Stage) -> None:
    """Promise 1: the conversation that it has is somebody else's."""
    stage.build("a")
    hand_over(stage)

    error = refused(stage, generation=2, claim_id="claim-2")

    assert error.code == "runtime_failed"
    assert isinstance(error, RemoteError)
    assert settled(stage, generation=2).introduced is Introduction.MAYBE


def test_an_instance_that_cannot_be_reached_was_never_told(stage: Stage) -> None:
    stage.build("a")

    def nobody_listens() -> None:
        raise httpx.ConnectError("connection refused")

    stage.agent("a").fail("provision", "hook", before=nobody_listens)

    assert refused(stage).code == "runtime_failed"
    assert settled(stage).introduced is Introduction.NEVER
    assert hand_over(stage, generation=2).conversation_id


def test_an_answer_that_comes_after_the_closing_does_not_count(stage: Stage) -> None:
    """The claim was settled while the instance took its time: the late answer binds nobody, the instance is asked instead."""
    stage.build("a")
    stage.agent("a").fail("provision", "hook", before=lambda: settled(stage))

    assert refused(stage).code == "fenced"
    assert settled(stage).introduced is Introduction.BOUND, "the instance says so"


def test_an_unknown_and_a_destroyed_instance_are_told_apart(stage: Stage) -> None:
    with pytest.raises(NotFoundError):
        hand_over(stage)
    with pytest.raises(NotFoundError):
        settled(stage)
    with pytest.raises(NotFoundError):
        reset(stage)
    stage.insert("a")
    stage.destroy("a")

    assert refused(stage).code == "destroyed"
    for call in (settled, reset):
        with pytest.raises(ConflictError) as caught:
            call(stage)
        assert caught.value.code == "destroyed"


def test_an_id_that_cannot_be_one_is_refused(stage: Stage) -> None:
    with pytest.raises(RequestError):
        configuring.configure("no/id", a_hand_over(), stage.context)


# --- model and variables


def test_a_model_and_variables_travel_with_the_introduction(stage: Stage) -> None:
    stage.build("a")
    hand_over(stage, model="small", variables={"MAIL_KEY": "v"})

    heard = stage.agent("a").heard[-1]
    assert (heard.model, dict(heard.variables)) == ("small", {"MAIL_KEY": "v"})
    assert stage.agent("a").operations() == ["health", "provision"]


def test_an_old_image_that_cannot_take_variables_is_told_nothing(stage: Stage) -> None:
    stage.build("a", image="ghcr.io/convos/agent:old")

    error = refused(stage, model="small")

    assert error.code == "no_capability"
    assert settled(stage).introduced is Introduction.NEVER
    assert told(stage) == []


def test_where_variables_do_not_travel_the_instance_is_restarted_with_them_first(stage: Stage) -> None:
    stage.build("a")
    stage.agent("a").capabilities = ()

    answer = hand_over(stage, model="small", variables={"MAIL_KEY": "v"})

    assert answer.conversation_id
    assert stage.agent("a").operations() == ["health", "restart", "health", "provision"]
    assert stage.agent("a").environment["MAIL_KEY"] == "v"
    assert stage.agent("a").environment["OPENCLAW_PRIMARY_MODEL"] == "small"


def test_an_instance_that_is_not_ready_is_not_asked_to_take_variables(stage: Stage) -> None:
    stage.build("a")
    stage.agent("a").mode = Mode.NOT_READY

    assert refused(stage, model="small").code == "runtime_failed"
    assert settled(stage).introduced is Introduction.NEVER


def test_a_repeated_call_with_variables_returns_the_answer_although_the_instance_is_away(stage: Stage) -> None:
    stage.build("a")
    first = hand_over(stage, model="small")
    stage.agent("a").mode = Mode.CRASHED

    assert hand_over(stage, model="small") == first


# --- reset


def test_a_reset_proves_that_the_instance_is_clean(stage: Stage) -> None:
    """P3."""
    stage.build("a")
    stage.agent("a").late_seconds = 3600
    refused(stage)
    settled(stage)

    assert reset(stage).clean is True
    stage.agent("a").late_seconds = None
    assert hand_over(stage, generation=2, claim_id="claim-2").conversation_id


def test_an_image_that_cannot_reset_proves_nothing(stage: Stage) -> None:
    stage.build("a", image="ghcr.io/convos/agent:old")
    settled(stage)

    assert reset(stage).clean is None


def test_a_reset_that_fails_proves_nothing_and_can_be_repeated(stage: Stage) -> None:
    stage.build("a")
    settled(stage)
    stage.agent("a").fail("reset", "fail_after", status=500)

    with pytest.raises(RemoteError) as caught:
        reset(stage)
    assert caught.value.code == "runtime_failed"
    assert reset(stage).clean is True


@pytest.mark.parametrize(("closed", "wanted"), [(0, 2), (1, 1), (2, 1), (5, 1)])
def test_only_the_newest_closed_introduction_may_be_reset(stage: Stage, closed: int, wanted: int) -> None:
    """A late reset never wipes the agent of the next claim."""
    stage.build("a")
    hand_over(stage, generation=2)
    if closed:
        settled(stage, generation=closed)

    with pytest.raises(ConflictError) as caught:
        reset(stage, generation=wanted)
    assert caught.value.code == "fenced"
    assert stage.agent("a").memory.conversation is not None


def test_after_a_reset_the_former_answer_is_void(stage: Stage) -> None:
    stage.build("a")
    hand_over(stage)
    settled(stage)
    assert reset(stage).clean is True

    assert refused(stage).code == "fenced"
    assert settled(stage).introduced is Introduction.MAYBE


def test_nothing_is_introduced_while_a_reset_or_a_deployment_is_under_way(stage: Stage) -> None:
    stage.build("a")
    settled(stage)
    codes: list[str] = []
    stage.agent("a").fail("reset", "hook", before=lambda: codes.append(refused(stage, generation=2, claim_id="next").code))
    reset(stage)

    stage.railway.fail("environmentPatchCommit", "hook", before=lambda: codes.append(refused(stage, generation=3).code))
    redeploy.redeploy("a", Redeploy(), stage.context)

    assert codes == ["fenced", "fenced"]
    assert told(stage) == []


# --- verify


def test_a_token_is_valid_for_its_own_instance_alone(stage: Stage) -> None:
    """P44."""
    stage.insert("a", "b")

    def valid(instance_id: str, token: str) -> bool:
        return verify.verify(instance_id, Verify(gateway_token=token), stage.context).valid

    assert valid("a", token_of("a"))
    assert not valid("a", token_of("b"))
    assert not valid("a", token_of("a") + " ")
    assert not valid("nobody", token_of("a"))


def test_a_token_that_two_living_instances_share_is_nobodys(stage: Stage) -> None:
    stage.insert("a", "b")
    stage.do(
        "UPDATE services.instances SET gateway_token_hash = (SELECT gateway_token_hash FROM services.instances WHERE id = 'a');"
    )

    assert not verify.verify("a", Verify(gateway_token=token_of("a")), stage.context).valid


def test_a_destroyed_instance_has_no_valid_token(stage: Stage) -> None:
    stage.insert("a")
    stage.destroy("a")

    assert not verify.verify("a", Verify(gateway_token=token_of("a")), stage.context).valid


def test_nothing_of_an_introduction_prints(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """P43."""
    stage.build("a")
    stage.agent("a").fail("provision", "lose")
    request: Configure = a_hand_over(instructions="the caller's own words", variables={"MAIL_KEY": "grant-secret"})
    with pytest.raises(AppError) as caught:
        configuring.configure("a", request, stage.context)
    settled(stage)

    printed = "".join(capfd.readouterr()) + caught.value.message + repr(caught.value.details)
    for secret in ("the caller's own words", "grant-secret", token_of("a")):
        assert secret not in printed


def test_two_who_settle_at_once_hear_the_same(stage: Stage) -> None:
    """P2: the one whose finding came second must not call the instance doubtful."""
    stage.build("a")
    stage.agent("a").fail("provision", "lose")
    refused(stage)
    heard: list[Settled] = []
    stage.agent("a").fail("status", "hook", after=lambda: heard.append(settled(stage)))
    heard.append(settled(stage))
    assert [one.introduced for one in heard] == [Introduction.BOUND, Introduction.BOUND]
    assert heard[0] == heard[1]
