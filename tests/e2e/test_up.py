"""`python3 -m infra up`, from the start to an end of every kind."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from infra.local.processes import free_ports
from tests.e2e.conftest import ROOT, Stack, alive, command, environment

Start = Callable[..., Stack]


def operate(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an operator's command against a running stack."""
    return subprocess.run(
        command(*arguments, "--state", str(stack.folder)),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 15
    while alive(pids):
        assert time.monotonic() < deadline, f"still running: {alive(pids)}"
        time.sleep(0.1)


def test_a_newcomer_gets_a_warm_pool_and_claims_an_agent_with_the_printed_line(start: Start, http: httpx.Client) -> None:
    stack = start("--min-idle", "2")
    printed = stack.wait_for("The pool is warm")
    assert http.get(f"{stack.url}/health").json() == {"status": "ok"}

    lines = [line for line in printed.splitlines() if line.startswith("curl")]
    assert len(lines) == 1
    words = shlex.split(lines[0])
    assert words[2] == f"{stack.url}/api/pool/claim"
    headers = dict(word.split(": ", 1) for flag, word in itertools.pairwise(words) if flag == "-H")
    claimed = http.post(words[2], headers=headers, content=words[words.index("-d") + 1])
    assert claimed.status_code == 200, claimed.text
    assert claimed.json()["status"] == "claimed"
    assert claimed.json()["agentName"] == "Ada"

    shown = operate(stack, "show", claimed.json()["instanceId"])
    assert shown.returncode == 0, shown.stderr
    assert "Ada" in shown.stdout
    assert "claimed" in operate(stack, "agents").stdout
    assert "2" in operate(stack, "status").stdout
    claimed_again = operate(stack, "claim", "--name", "Grace")
    assert claimed_again.returncode == 0, claimed_again.stderr
    killed = operate(stack, "kill", claimed.json()["instanceId"])
    assert killed.returncode == 0, killed.stderr
    assert operate(stack, "ticks").returncode == operate(stack, "events").returncode == operate(stack, "logs").returncode == 0


def test_what_was_there_is_there_again_after_a_restart(start: Start, http: httpx.Client) -> None:
    first = start("--min-idle", "1")
    first.wait_for("The pool is warm")
    before = operate(first, "agents").stdout.split("\n")[1].split()[0]
    assert first.end() == 0
    second = start("--min-idle", "1", folder=first.folder)
    second.wait_for("The pool is warm")
    time.sleep(2)
    assert before in operate(second, "agents", "--status", "idle").stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_no_process_is_left_behind(start: Start, how: signal.Signals) -> None:
    stack = start("--min-idle", "0")
    stack.wait_for("curl")
    children = stack.children()
    assert len(children) >= 6
    status = stack.end(how)
    assert status == (0 if how != signal.SIGKILL else -signal.SIGKILL)
    wait_until_gone(children)
    assert operate(stack, "status").returncode == 1


def test_what_is_killed_below_it_returns_by_itself_and_claims_go_on(start: Start, http: httpx.Client) -> None:
    """P25: nothing that matters is in a process's memory. Two functions' processes, the simulators and Postgres."""
    stack = start("--min-idle", "1")
    stack.wait_for("The pool is warm")
    time.sleep(2.5)  # the simulators write down what they hold
    before = operate(stack, "agents", "--status", "idle").stdout.split("\n")[1].split()[0]
    names = ("services", "pool", "simulators")
    for name in names:
        os.kill(stack.child(f'"name": "{name}"'), signal.SIGKILL)
    os.kill(stack.child("/postgres\0"), signal.SIGTERM)  # which waits for sessions that never end
    for ended in (*(f"The process {name}" for name in names), "Postgres"):
        stack.wait_for(f"{ended} runs again.")
    claimed = operate(stack, "claim", "--name", "Ada", "--json")
    assert claimed.returncode == 0, claimed.stderr + stack.printed()
    assert json.loads(claimed.stdout)["instanceId"] == before


def test_a_signal_during_the_start_ends_it_at_once(start: Start) -> None:
    stack = start("--min-idle", "0")
    stack.wait_for("Starting Postgres")
    assert stack.end() == 130
    assert stack.printed().endswith("\nStopped.\n")
    assert stack.children() == set()


def test_the_processes_know_only_their_own_settings(start: Start) -> None:
    """P42: the vendors' keys are in the processes of their functions only."""
    stack = start("--min-idle", "0")
    stack.wait_for("curl")
    seen = []
    for pid in stack.children():
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        name = re.search(r'"name": "(\w+)"', " ".join(arguments))
        if name and "RAILWAY_API_TOKEN=" in Path(f"/proc/{pid}/environ").read_text():
            seen.append(name[1])
    assert set(seen) <= {"services"}


def test_unknown_paths_and_wrong_methods_get_the_one_error_body(start: Start, http: httpx.Client) -> None:
    stack = start("--min-idle", "0")
    stack.wait_for("curl")
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("PUT", "/health", 405),
        ("GET", "/registry", 401),
        ("POST", "/tick", 401),
    ):
        answer = http.request(method, stack.url + path)
        assert answer.status_code == status, (path, answer.text)
        assert set(answer.json()["error"]) >= {"code", "message", "requestId"}


def test_a_busy_port_is_one_sentence(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stack = start(port=listener.getsockname()[1])
        assert stack.process.wait(30) == 1
    assert (
        stack.printed().strip() == f"Port {stack.port} cannot be used (Address already in use); choose another one with --port."
    )


def test_a_second_stack_in_the_same_folder_is_one_sentence(start: Start) -> None:
    first = start("--min-idle", "0")
    first.wait_for("curl")
    second = start(folder=first.folder)
    assert second.process.wait(30) == 1
    assert second.printed().startswith(f"The stack is already running at {first.url}")
    assert len(second.printed().strip().splitlines()) == 1


def test_a_broken_database_folder_is_one_sentence(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("18\n")
    (folder / "simulators.pickle").write_bytes(b"")
    stack = start(folder=folder)
    assert stack.process.wait(30) == 1
    assert "Traceback" not in stack.printed()
    assert len(stack.printed().strip().splitlines()) <= 2


def test_without_simulators_all_missing_settings_are_named(start: Start) -> None:
    stack = start("--vendors", "env", port=free_ports(1)[0])
    assert stack.process.wait(30) == 1
    assert "RAILWAY_API_TOKEN" in stack.printed()
    assert "Traceback" not in stack.printed()
