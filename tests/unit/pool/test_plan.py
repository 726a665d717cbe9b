"""What follows from an observation: the table of the contract, line by line."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.api.services import Observed, ServiceStatus
from shared.pool.lifecycle import AVAILABLE, Status, is_legal
from shared.pool.plan import Plan, Rules, judge, plan
from tests.factories import NOW, an_instance, seen

S, W = Status, ServiceStatus
RULES = Rules()


def verdict(status: Status, observed: Observed, *, conversation_id: str | None = None) -> Status:
    return judge(an_instance(status=status, conversation_id=conversation_id), observed, rules=RULES, now=NOW)[0]


@pytest.mark.parametrize("status", [W.UNKNOWN, W.UNREGISTERED, W.CREATING])
@pytest.mark.parametrize("before", list(Status))
def test_what_is_unknown_changes_nothing(before: Status, status: ServiceStatus) -> None:
    """P33, P35: an outage, a partial listing or an empty services database is no news."""
    assert verdict(before, seen(status)) is before


@pytest.mark.parametrize(
    ("before", "after"),
    [(S.STARTING, S.STARTING), (S.IDLE, S.STARTING), (S.SLEEPING, S.STARTING), (S.CLAIMED, S.CLAIMED), (S.TAINTED, S.TAINTED)],
)
def test_a_running_deployment_makes_unclaimed_ones_starting(before: Status, after: Status) -> None:
    assert verdict(before, seen(W.DEPLOYING)) is after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (S.STARTING, S.IDLE),
        (S.IDLE, S.IDLE),
        (S.SLEEPING, S.IDLE),
        (S.CLAIMED, S.CLAIMED),
        (S.DEAD, S.DEAD),
        (S.TAINTED, S.TAINTED),
    ],
)
def test_ready_makes_idle_only_what_was_never_introduced(before: Status, after: Status) -> None:
    """P39: crashed, tainted and dead ones are not promoted by a recheck."""
    assert verdict(before, seen(W.HEALTHY)) is after


@pytest.mark.parametrize("lost", [W.DEPLOY_FAILED, W.GONE, W.DESTROYING])
@pytest.mark.parametrize(
    ("before", "after"),
    [(S.STARTING, S.DEAD), (S.IDLE, S.DEAD), (S.SLEEPING, S.DEAD), (S.CLAIMED, S.CRASHED), (S.PENDING_ACCEPTANCE, S.CRASHED)],
)
def test_a_failed_deployment_kills_the_unclaimed_and_marks_the_claimed(
    before: Status, after: Status, lost: ServiceStatus
) -> None:
    assert verdict(before, seen(lost)) is after


def test_sleeping_is_a_state_not_a_death() -> None:
    """P32."""
    assert verdict(S.IDLE, seen(W.SLEEPING)) is S.SLEEPING
    assert verdict(S.CLAIMED, seen(W.SLEEPING)) is S.CLAIMED


@pytest.mark.parametrize("failing", [W.UNHEALTHY, W.UNREACHABLE])
def test_an_idle_one_fails_only_after_several_checks_over_a_while(failing: ServiceStatus) -> None:
    """P32: one missed check never costs an instance."""

    def after(checks: int, seconds: float) -> Status:
        return verdict(S.IDLE, seen(failing, failed_checks=checks, failing_since=NOW - timedelta(seconds=seconds)))

    assert after(1, 0) is S.IDLE
    assert after(1, 3600) is S.IDLE
    assert after(20, 10) is S.IDLE
    assert after(3, 60) is S.STARTING
    assert after(3, 899) is S.STARTING
    assert after(2, 901) is S.IDLE
    assert after(3, 901) is S.DEAD


def test_a_starting_one_may_fail_until_it_is_stuck() -> None:
    def after(checks: int, seconds: float) -> Status:
        return verdict(S.STARTING, seen(W.UNREACHABLE, failed_checks=checks, failing_since=NOW - timedelta(seconds=seconds)))

    assert after(50, 899) is S.STARTING
    assert after(2, 2000) is S.STARTING
    assert after(3, 900) is S.DEAD


def test_a_crashed_one_comes_back_only_with_its_own_conversation() -> None:
    """P39."""
    assert verdict(S.CRASHED, seen(W.HEALTHY, conversation_id="c1"), conversation_id="c1") is S.CLAIMED
    assert verdict(S.CRASHED, seen(W.HEALTHY, conversation_id="c2"), conversation_id="c1") is S.TAINTED
    assert verdict(S.CRASHED, seen(W.HEALTHY), conversation_id="c1") is S.CRASHED
    assert verdict(S.CRASHED, seen(W.HEALTHY, conversation_id="c1")) is S.TAINTED


observations = st.builds(
    Observed,
    status=st.sampled_from(ServiceStatus),
    deploy_status=st.sampled_from([None, "SUCCESS", "CRASHED"]),
    failed_checks=st.integers(0, 50),
    failing_since=st.one_of(st.none(), st.integers(0, 5000).map(lambda seconds: NOW - timedelta(seconds=seconds))),
    conversation_id=st.sampled_from([None, "c1", "c2"]),
)


@given(st.sampled_from(Status), observations, st.sampled_from([None, "c1"]))
def test_every_verdict_is_a_legal_move_that_gives_nobody_a_used_instance(
    before: Status, observed: Observed, conversation: str | None
) -> None:
    after = verdict(before, observed, conversation_id=conversation)
    assert after is before or is_legal(before, after)
    assert after not in AVAILABLE or before in AVAILABLE
    assert before is not Status.CLAIMING or after is Status.CLAIMING


def plan_for(statuses: list[Status], observed: Observed, *, accept_losses: bool = False) -> Plan:
    instances = [an_instance(id=f"i{number}", status=status) for number, status in enumerate(statuses)]
    states = {instance.id: observed for instance in instances}
    return plan(instances, states, current_image=None, rules=RULES, accept_losses=accept_losses, now=NOW)


def test_losing_too_much_at_once_holds_the_plan_back() -> None:
    result = plan_for([S.IDLE] * 4, seen(W.GONE))
    assert result.losses == 4
    assert result.held_back is not None
    assert "4 of 4" in result.held_back


def test_an_operator_can_accept_the_losses() -> None:
    assert plan_for([S.IDLE] * 4, seen(W.GONE), accept_losses=True).held_back is None


def test_three_may_always_be_lost() -> None:
    assert plan_for([S.IDLE] * 3, seen(W.DEPLOY_FAILED)).held_back is None


def test_a_quarter_of_a_large_pool_may_be_lost() -> None:
    instances = [an_instance(id=f"i{number}") for number in range(100)]
    for dying, held in ((25, False), (26, True)):
        states = {instance.id: seen(W.GONE if n < dying else W.HEALTHY) for n, instance in enumerate(instances)}
        result = plan(instances, states, current_image=None, rules=RULES, accept_losses=False, now=NOW)
        assert (result.held_back is not None) is held


def test_idle_ones_that_stop_answering_together_count_as_losses() -> None:
    """P33: a network that fails on our side must not empty the pool."""
    failing = seen(W.UNREACHABLE, failed_checks=9, failing_since=NOW - timedelta(seconds=120))
    assert plan_for([S.IDLE] * 10, failing).held_back is not None


def test_what_was_not_observed_and_what_is_being_claimed_stay_out_of_the_plan() -> None:
    """P1."""
    instances = [an_instance(id="a", status=S.CLAIMING), an_instance(id="b")]
    result = plan(instances, {"a": seen(W.GONE)}, current_image=None, rules=RULES, accept_losses=False, now=NOW)
    assert result.moves == ()


def test_steady_instances_are_not_written() -> None:
    steady = an_instance(observed="healthy", deploy_status="SUCCESS", image="img@1", current_image=True)
    states = {"abc": seen(W.HEALTHY, deploy_status="SUCCESS", image="img@1")}
    assert plan([steady], states, current_image="img@1", rules=RULES, accept_losses=False, now=NOW).moves == ()


def test_a_new_desired_image_is_noticed() -> None:
    """P10."""
    old = an_instance(observed="healthy", deploy_status="SUCCESS", image="img@1", current_image=True)
    states = {"abc": seen(W.HEALTHY, deploy_status="SUCCESS", image="img@1")}
    assert len(plan([old], states, current_image="img@2", rules=RULES, accept_losses=False, now=NOW).moves) == 1
