"""Stacks as a newcomer starts them: in a process of their own, on a free port, in a folder of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from infra.local.processes import free_ports

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0


@dataclass
class Stack:
    """A stack that was started by `python3 -m infra up`."""

    folder: Path
    port: int
    process: subprocess.Popen[str]
    output: Path
    _ended: bool = field(default=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def printed(self) -> str:
        return self.output.read_text()

    def wait_for(self, sentence: str, *, seconds: float = START_SECONDS) -> str:
        """Return what was printed once *sentence* is among it."""
        deadline = time.monotonic() + seconds
        while sentence not in self.printed():
            assert self.process.poll() is None, f"up ended with {self.process.returncode}:\n{self.printed()}"
            assert time.monotonic() < deadline, f"{sentence!r} was not printed:\n{self.printed()}"
            time.sleep(0.05)
        return self.printed()

    def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(how)
        return self.process.wait(30)

    def children(self) -> set[int]:
        """Every process below this one."""
        found: set[int] = set()
        waiting = {self.process.pid}
        parents = _parents()
        while waiting:
            waiting = {pid for pid, parent in parents.items() if parent in waiting} - found
            found |= waiting
        return found

    def child(self, words: str) -> int:
        """Our own child whose command line contains *words*."""
        parents = _parents()
        ours = [pid for pid, parent in parents.items() if parent == self.process.pid]
        found = [pid for pid in ours if words in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(found) == 1, (words, found)
        return found[0]


def alive(pids: set[int]) -> set[int]:
    """Those of *pids* that still run."""
    return pids & set(_parents())


def _parents() -> dict[int, int]:
    """The parent of every process that is not a zombie."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "infra", *arguments]


def environment(**more: str) -> dict[str, str]:
    """What a newcomer's shell has; the interpreter of the tests is used as it is."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "INFRA_VENV": "current", **more}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Start a stack; whatever a test leaves running is ended."""
    started: list[Stack] = []

    def up(*arguments: str, port: int | None = None, folder: Path | None = None) -> Stack:
        chosen = port or free_ports(1)[0]
        where = folder or tmp_path / "state"
        output = tmp_path / f"printed-{len(started)}"
        with output.open("w") as target:
            process = subprocess.Popen(
                command("up", "--port", str(chosen), "--state", str(where), "--tick-seconds", "2.5", *arguments),
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        stack = Stack(where, chosen, process, output)
        started.append(stack)
        return stack

    yield up
    for stack in started:
        if stack.process.poll() is None:
            stack.process.kill()
            stack.process.wait(10)


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=60.0, trust_env=False) as client:
        yield client
