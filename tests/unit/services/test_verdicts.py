"""What is known of an instance, and the status that follows from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.api.services import ServiceStatus
from shared.services import verdicts
from shared.services.hosting.base import Placement
from shared.services.runtime import Verdict
from shared.services.verdicts import Watched, due_for_check, must_ask_whom, observed, status_of, uncovered

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def watched(instance_id: str = "a", **fields: Any) -> Watched:
    values: dict[str, Any] = {
        "state": "created",
        "placement": Placement("shared", service_id="s", domain="a.example"),
        "gateway_token": "sealed-secret",
        "deployment_id": "d1",
        "deploy_status": "SUCCESS",
        "image": "image",
        "seen_at": NOW,
        "gone": False,
        "health": Verdict.READY,
        "health_reason": None,
        "failed_checks": 0,
        "failing_since": None,
        "checked_at": NOW,
        "conversation_id": None,
        "clean": None,
        "conversation_read_at": None,
        "sent_generation": 0,
        "built_at": NOW - timedelta(minutes=5),
    }
    return Watched(id=instance_id, **{**values, **fields})


@pytest.mark.parametrize("word", sorted(verdicts.DEPLOYING))
def test_a_deployment_under_way_is_deploying_whatever_its_health(word: str) -> None:
    assert status_of(watched(deploy_status=word))[0] is ServiceStatus.DEPLOYING


@pytest.mark.parametrize("word", sorted(verdicts.FAILED))
def test_a_deployment_that_ended_is_failed(word: str) -> None:
    assert status_of(watched(deploy_status=word))[0] is ServiceStatus.DEPLOY_FAILED


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "creating", "deploy_status": "CRASHED"}, ServiceStatus.CREATING),
        ({"state": "destroying", "gone": True}, ServiceStatus.DESTROYING),
        ({"state": "destroyed"}, ServiceStatus.GONE),
        ({"gone": True}, ServiceStatus.GONE),
        ({"deploy_status": None}, ServiceStatus.DEPLOYING),
        ({"deploy_status": "SLEEPING", "health": Verdict.UNREACHABLE}, ServiceStatus.SLEEPING),
        ({"deploy_status": "NEVER_HEARD_OF"}, ServiceStatus.UNKNOWN),
        ({"deploy_status": "success"}, ServiceStatus.UNKNOWN),
        ({"health": None}, ServiceStatus.UNKNOWN),
        ({"health": Verdict.READY}, ServiceStatus.HEALTHY),
        ({"health": Verdict.NOT_READY}, ServiceStatus.UNHEALTHY),
        ({"health": Verdict.UNREACHABLE}, ServiceStatus.UNREACHABLE),
    ],
)
def test_one_status_stands_for_all_that_is_known(fields: dict[str, Any], expected: ServiceStatus) -> None:
    """P33: what is unknown is unknown, not dead."""
    assert status_of(watched(**fields))[0] is expected


def test_every_word_of_the_provider_is_known_once() -> None:
    known = [*verdicts.DEPLOYING, *verdicts.FAILED, verdicts.RUNNING, verdicts.SLEEPING]

    assert len(known) == len(set(known)) == 13


def test_what_is_told_has_no_secret() -> None:
    """P41."""
    told = observed(watched(), url="https://a.example")

    assert "sealed-secret" not in json.dumps(told.model_dump(mode="json"))
    assert "sealed-secret" not in repr(watched())


def test_only_running_instances_whose_verdict_is_old_are_checked() -> None:
    rows = [
        watched("old", checked_at=NOW - timedelta(seconds=31)),
        watched("young", checked_at=NOW - timedelta(seconds=30)),
        watched("never", checked_at=None, health=None),
        watched("asleep", checked_at=None, health=None, deploy_status="SLEEPING"),
        watched("gone", checked_at=None, health=None, gone=True),
        watched("destroying", checked_at=None, health=None, state="destroying"),
    ]

    assert [row.id for row in due_for_check(rows, now=NOW, max_age_seconds=30)] == ["never", "old"]


def test_one_that_failed_is_asked_again_soon() -> None:
    """One that was asked while it booted is ready a moment later, and nobody should wait half a minute to learn it."""
    failing = {"failed_checks": 1, "failing_since": NOW}
    rows = [
        watched("soon", checked_at=NOW - timedelta(seconds=5), **failing),
        watched("just", checked_at=NOW - timedelta(seconds=3), **failing),
        watched("fine", checked_at=NOW - timedelta(seconds=5)),
    ]

    assert [row.id for row in due_for_check(rows, now=NOW, max_age_seconds=30)] == ["soon"]
    assert {row.id for row in due_for_check(rows, now=NOW, max_age_seconds=1)} == {"soon", "just", "fine"}


def test_the_most_urgent_is_checked_first_and_nobody_waits_for_ever() -> None:
    """P36: never asked, then failing, then the longest ago; but one left out long enough comes before the failing ones."""

    def asked(seconds_ago: float, **fields: Any) -> Watched:
        name = f"{'failing' if fields else 'fine'}-{seconds_ago:g}"
        return watched(name, checked_at=NOW - timedelta(seconds=seconds_ago), **fields)

    failing = {"failed_checks": 1, "failing_since": NOW}
    rows = [asked(40), asked(50), asked(35, **failing), watched("never", checked_at=None), asked(90)]

    order = [row.id for row in due_for_check(rows, now=NOW, max_age_seconds=30)]

    assert order == ["never", "fine-90", "failing-35", "fine-50", "fine-40"]


def test_those_being_started_and_not_seen_lately_are_read_by_themselves() -> None:
    late = NOW - timedelta(seconds=16)
    rows = [
        watched("running", seen_at=late),
        watched("building", seen_at=late, deploy_status="BUILDING"),
        watched("just-seen", deploy_status="BUILDING"),
        watched("new", seen_at=None, deploy_status=None),
        watched("asleep", seen_at=late, deploy_status="SLEEPING"),
        watched("woken", seen_at=late - timedelta(seconds=1), deploy_status="SLEEPING"),
        watched("being-created", seen_at=None, deploy_status=None, state="creating"),
    ]

    found = uncovered(rows, now=NOW, woken=frozenset({"woken", "running"}), stale_seconds=15)

    assert [row.id for row in found] == ["new", "woken", "building"]


@pytest.mark.parametrize(
    ("fields", "verdict", "expected"),
    [
        ({"sent_generation": 1}, Verdict.READY, True),
        ({"sent_generation": 0}, Verdict.READY, False),
        ({"sent_generation": 1}, Verdict.NOT_READY, False),
        ({"sent_generation": 1, "conversation_read_at": NOW}, Verdict.READY, False),
    ],
)
def test_whom_it_talks_to_is_asked_when_it_was_introduced_and_that_is_not_known(
    fields: dict[str, Any], verdict: Verdict, expected: bool
) -> None:
    """P39."""
    assert must_ask_whom(watched(**fields), verdict) is expected
