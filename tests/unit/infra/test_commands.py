"""What can be typed, and what the operator's commands show."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.arguments import parse
from infra.commands.client import PoolClient, connect
from infra.commands.tables import ago, brief, fields, table
from infra.local.logfiles import follow, short
from infra.problem import Problem


def test_pytest_s_arguments_and_ours_may_be_mixed() -> None:
    arguments = parse(["test", "-x", "--require", "pgbouncer,pgbench", "tests/unit", "-k", "claim"])
    assert arguments.require == ("pgbouncer", "pgbench")
    assert arguments.pytest_arguments == ["-x", "tests/unit", "-k", "claim"]
    assert arguments.needs == "tests"


@pytest.mark.parametrize(
    "typed",
    [
        ["up", "--port", "0"],
        ["up", "--port", "http"],
        ["up", "--tick-seconds", "0"],
        ["test", "--require", "hammer"],
        [],
        ["fly"],
        ["drain"],
        ["drain", "0"],
        ["drain", "1", "--all"],
        ["replenish", "0"],
        ["ticks", "--limit", "0"],
    ],
)
def test_what_makes_no_sense_is_refused(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(typed)
    assert refused.value.code == 2
    assert "usage: python3 -m infra" in capsys.readouterr().err


def pool(handler: Callable[[httpx.Request], httpx.Response]) -> PoolClient:
    return PoolClient("http://pool", "the-key", transport=httpx.MockTransport(handler))


def test_the_key_is_sent() -> None:
    assert pool(lambda request: httpx.Response(200, json=request.headers["Authorization"])).get("/x") == "Bearer the-key"


def test_an_error_is_the_api_s_own_sentence() -> None:
    body = {"error": {"code": "no_idle_instances", "message": "No idle instance is left.", "requestId": "r1"}}
    with pytest.raises(Problem, match=r"No idle instance is left\. \(no_idle_instances, request r1\)"):
        pool(lambda request: httpx.Response(503, json=body)).send("POST", "/api/pool/claim", {})


@pytest.mark.parametrize("answer", [httpx.Response(502, text="<html>"), httpx.Response(200, text="hello")])
def test_a_page_instead_of_json_is_said_so(answer: httpx.Response) -> None:
    with pytest.raises(Problem, match="not JSON"):
        pool(lambda request: answer).get("/x")


def test_a_pool_that_cannot_be_reached_is_said_so() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(Problem, match="http://pool could not be reached: refused"):
        pool(refuse).get("/x")


@pytest.mark.parametrize(
    ("url", "key", "sentence"),
    [
        ("pool:8080", "k", "it begins with https:// or http://"),
        ("http://pool:eighty", "k", "is not the address of a pool"),
        ("http://pool", "kéy", "characters that no key has"),
        ("http://pool", "k\n", "characters that no key has"),
    ],
)
def test_an_address_or_key_that_can_be_none_is_said_so(url: str, key: str, sentence: str) -> None:
    with pytest.raises(Problem, match=sentence):
        PoolClient(url, key)


def test_a_wrong_key_is_said_so() -> None:
    with pytest.raises(Problem, match="http://pool does not accept this key"):
        pool(lambda request: httpx.Response(401, json={"error": {}})).get("/x")


def operation(**changed: Any) -> dict[str, Any]:
    return {"operationId": "o1", "kind": "drain", "status": "running", "done": 0, "total": 2, "problem": None, **changed}


def test_long_work_is_followed_to_its_end() -> None:
    answers = iter([operation(done=1), operation(done=1), operation(done=2, status="done")])
    told: list[str] = []
    client = pool(lambda request: httpx.Response(200, json=next(answers)))
    assert client.follow(operation(), told.append, pause_seconds=0)["status"] == "done"
    assert told == ["drain: 0 of 2", "drain: 1 of 2"]


def test_failed_work_is_a_problem_with_its_reason() -> None:
    with pytest.raises(Problem, match="drain failed: the host refuses"):
        pool(lambda request: httpx.Response(500)).follow(operation(status="failed", problem="the host refuses"), print)


def test_without_a_stack_or_an_address_a_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POOL_URL", raising=False)
    with pytest.raises(Problem, match="No local stack is running here"):
        connect(parse(["status", "--state", str(tmp_path)]))
    with pytest.raises(Problem, match="A key is needed"):
        connect(parse(["status", "--state", str(tmp_path), "--url", "http://pool"]))


def test_tables_are_aligned_and_empty_ones_say_so() -> None:
    assert table(("a", "long name"), [("xyz", None), (1, True)]) == "a    long name\nxyz\n1    yes"
    assert table(("a",), []) == "nothing to show"
    assert table(("a",), [("x" * 70,)]).endswith("x…")
    assert table(("a",), [("x" * 70,)], longest=None).endswith("x" * 70)
    assert fields([("joined", False), ("paused", True)]) == "joined  no\npaused  yes"
    assert fields([("name", "x"), ("empty", None), ("id", 0)]) == "name  x\nid    0"


def test_moments_are_told_by_their_age() -> None:
    now = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert ago("2026-01-01T11:59:48Z", now=now) == "12 s"
    assert ago("2026-01-01T11:50:00Z", now=now) == "10 min"
    assert ago("2025-12-30T11:50:00Z", now=now) == "2 d"
    assert brief({"idle": 3, "dead": 0, "nested": {"a": 1}, "ids": ["x"]}) == "idle 3, nested {a 1}, ids x"


def test_a_log_line_is_shown_in_short() -> None:
    line = json.dumps({"severity": "WARNING", "message": "work.failed", "time": "2026-01-01T12:00:01+00:00", "instance_id": "i1"})
    assert short("tick", line) == "12:00:01 WARNING tick       work.failed instance_id=i1"
    assert short("tick", "Traceback") == "tick       Traceback"


def test_following_a_log_yields_what_is_added_and_waits_for_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "tick.log"
    file.write_text("old\nhalf")
    rounds = iter([False, True])

    def ended() -> bool:
        over = next(rounds)
        if over:
            file.write_text("old\nhalf a line\nopen")
        return over

    assert list(follow([file], from_start=True, ended=ended)) == [("tick", "old"), ("tick", "half a line")]


def test_the_lines_of_several_processes_are_told_in_the_order_of_their_times(tmp_path: Path) -> None:
    for name, seconds in (("pool", (1, 4)), ("tick", (2, 3))):
        lines = [json.dumps({"message": str(second), "time": f"2026-01-01T12:00:0{second}"}) for second in seconds]
        (tmp_path / f"{name}.log").write_text("\n".join([lines[0], "Traceback", lines[1], ""]))
    found = follow(sorted(tmp_path.glob("*.log")), from_start=True, ended=lambda: True)
    assert [(process, short("", line).split()[-1]) for process, line in found] == [
        ("pool", "1"), ("pool", "Traceback"), ("tick", "2"), ("tick", "Traceback"), ("tick", "3"), ("pool", "4"),
    ]  # fmt: skip
