"""Names are valid for every vendor, and tell whose they are (P22, P26)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.services import names

environments = st.text(min_size=1, max_size=40)
instances = st.one_of(st.uuids().map(str), st.text(min_size=1, max_size=80))


@given(environments, instances)
def test_a_name_fits_every_vendor(environment: str, instance_id: str) -> None:
    """P22: Railway takes 32 characters; AgentMail letters, digits and `-._~`."""
    name = names.make(environment, instance_id)
    assert len(name) <= 32
    assert re.fullmatch(r"[a-z0-9-]+", name)


@given(environments, instances, st.integers(2, 9999))
def test_a_later_attempts_name_is_one_that_vendors_of_tools_take(environment: str, instance_id: str, attempt: int) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", names.make(environment, instance_id, attempt=attempt))


@given(environments, instances, st.integers(1, 9999))
def test_what_was_made_is_parsed_back(environment: str, instance_id: str, attempt: int) -> None:
    name = names.make(environment, instance_id, attempt=attempt)
    assert names.parse(name) == names.Name(names.environment_key(environment), names.instance_key(instance_id), attempt)


@given(environments, instances)
def test_a_name_is_always_the_same_for_the_same_instance(environment: str, instance_id: str) -> None:
    assert names.make(environment, instance_id) == names.make(environment, instance_id)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("test", "a"), ("test", "b")), (("test", "a"), ("prod", "a")), (("staging-eu-1", "a"), ("staging-eu-2", "a"))],
)
def test_instances_and_environments_have_names_of_their_own(one: tuple[str, str], other: tuple[str, str]) -> None:
    """P26."""
    assert names.make(*one) != names.make(*other)


def test_ten_thousand_instances_share_no_name() -> None:
    assert len({names.make("production", f"instance-number-{number}") for number in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "name",
    [
        "",
        "postgres",
        "convos-agent",
        "convos-agent-",
        "convos-agent-test",
        "convos-agent-test-",
        "convos-agent-test-a.",
        "convos-agent-test-a.x",
        "convos-agent-test-a.12345",
        "convos-agent-test-a.1",
        "convos-agent-test-a.02",
        "convos-agent-test-a.\u0662",
        "convos-agent-test-a-b",
        "convos-agent-toolongenv-a",
        "convos-agent-test-elevenchars",
        "Convos-Agent-test-a",
        " convos-agent-test-a",
        "convos-agent-test-a\n",
        "my-convos-agent-test-a",
    ],
)
def test_what_is_not_ours_is_not_parsed(name: str) -> None:
    """P26: only our exact form is ever swept."""
    assert names.parse(name) is None


@given(st.text(max_size=60))
def test_whatever_is_parsed_is_what_would_have_been_made(text: str) -> None:
    name = names.parse(text)
    if name is not None:
        assert names.make(name.environment_key, name.instance_key, attempt=name.attempt) == text


def test_short_plain_ids_stay_readable() -> None:
    assert names.make("local", "abc123") == "convos-agent-local-abc123"
