"""Which settings reach which process, and what wins when a vendor is real."""

import json
from pathlib import Path

import pytest

from infra.local import values, vendors
from infra.local.processes import environment_for, plan_functions
from infra.local.stackfolder import StackFolder
from infra.problem import Problem
from infra.routes import Function, table

TABLE = table(
    [
        Function(
            "claim", "pool", ("POST /api/pool/claim",), secrets=("POOL_API_KEY",), settings=("SERVICES_URL", "POOL_MIN_IDLE")
        ),
        Function("tick", "pool", ("POST /tick",), trigger="schedule", settings=("SERVICES_URL",)),
        Function("instances", "services", ("GET /registry",), secrets=("RAILWAY_API_TOKEN",), settings=("SERVICES_URL",)),
        Function("provision_email", "services", ("GET /inventory/email",), secrets=("AGENTMAIL_API_KEY",)),
    ]
)


def test_functions_that_call_each_other_run_in_different_processes() -> None:
    found = plan_functions(TABLE, front_port=18099)
    assert {plan.name: plan.local for plan in found} == {
        "plugins": ("provision_email",),
        "services": ("instances",),
        "tick": ("tick",),
        "pool": ("claim",),
    }


def test_every_process_reaches_every_function() -> None:
    for plan in plan_functions(TABLE, front_port=18099):
        assert {*plan.local, *plan.remote} == {"claim", "tick", "instances", "provision_email"}


def test_a_process_knows_only_what_its_functions_declare() -> None:
    settings = {"POOL_API_KEY": "p", "RAILWAY_API_TOKEN": "r", "AGENTMAIL_API_KEY": "a", "POOL_MIN_IDLE": "2"}
    seen = {plan.name: environment_for(plan, TABLE, settings) for plan in plan_functions(TABLE, front_port=18099)}
    assert [name for name, known in seen.items() if "RAILWAY_API_TOKEN" in known] == ["services"]
    assert [name for name, known in seen.items() if "AGENTMAIL_API_KEY" in known] == ["plugins"]
    assert [name for name, known in seen.items() if "POOL_API_KEY" in known] == ["pool"]


def test_the_services_process_calls_plugins_and_not_itself() -> None:
    found = {plan.name: plan for plan in plan_functions(TABLE, front_port=18099)}
    assert environment_for(found["services"], TABLE, {})["SERVICES_URL"] == found["plugins"].url
    assert environment_for(found["tick"], TABLE, {})["SERVICES_URL"] == found["services"].url
    assert environment_for(found["tick"], TABLE, {"SERVICES_URL": "https://real"})["SERVICES_URL"] == "https://real"


def test_a_vendor_with_a_setting_of_its_own_is_not_simulated_at_all() -> None:
    found = vendors.settings("http://sims", given={"OPENROUTER_MANAGEMENT_KEY": "real", "AGENTMAIL_API_KEY": " "})
    assert not [name for name in found if name.startswith("OPENROUTER_")]
    assert found["AGENTMAIL_API_URL"] == "http://sims/agentmail/v0"


def test_what_is_given_wins_over_what_the_stack_makes() -> None:
    found = values.gather(
        pool_url="http://front", keys={"POOL_API_KEY": "made"}, given={"POOL_API_KEY": "given"}, simulators_url=None
    )
    assert found["POOL_API_KEY"] == "given"
    assert found["POOL_URL"] == "http://front"


def test_the_environment_wins_over_the_file_and_a_mistyped_name_is_refused() -> None:
    file = {"POOL_MIN_IDLE": "1"}
    assert values.chosen(TABLE, file=file, environment={"POOL_MIN_IDLE": "2", "OTHER": "x"}) == {"POOL_MIN_IDLE": "2"}
    with pytest.raises(Problem, match="POOL_MIN_IDEL"):
        values.chosen(TABLE, file={"POOL_MIN_IDEL": "1"}, environment={})


def test_a_run_without_simulators_names_all_that_is_missing() -> None:
    with pytest.raises(Problem) as refused:
        values.require_vendors({"RAILWAY_API_TOKEN": "t"})
    for name in ("RAILWAY_RUNTIME_IMAGE", "RAILWAY_PROJECT_ID", "RAILWAY_ENVIRONMENT_ID"):
        assert name in str(refused.value)
    values.require_vendors({"RAILWAY_API_TOKEN": "t", "RAILWAY_RUNTIME_IMAGE": "i", "RAILWAY_TOPOLOGY": "sharded"})


def test_keys_are_private_and_stay_the_same(tmp_path: Path) -> None:
    first = StackFolder(tmp_path).keys()
    assert StackFolder(tmp_path).keys() == first
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert len(set(first.values())) == len(first)


def test_a_key_that_an_older_version_did_not_know_is_added(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"POOL_API_KEY": "kept-from-before"}))
    assert StackFolder(tmp_path).keys()["POOL_API_KEY"] == "kept-from-before"
    assert StackFolder(tmp_path).keys()["INSTANCE_SECRETS_KEY"].startswith("local:")


def test_a_second_stack_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    first, second = StackFolder(tmp_path), StackFolder(tmp_path)
    first.acquire()
    with pytest.raises(Problem, match="already running"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_state_left_by_a_killed_stack_counts_as_none(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    folder.write_state({"url": "http://x", "key": "k", "pid": 2**22 + 1})
    assert folder.read_state() is None
