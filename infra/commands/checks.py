"""`check` and `test`: lint, types, layers, and every test."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from infra.environment import ROOT

_CHECKS = (
    ("lint", ["-m", "ruff", "check", "--quiet", "."]),
    ("format", ["-m", "ruff", "format", "--check", "--quiet", "."]),
    ("types", ["-m", "mypy", "--no-error-summary"]),
)
_LAYERS = ("layers", ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"])
_WORKERS = "2"


def check(arguments: argparse.Namespace) -> int:
    """Run lint, types and layers; every one of them runs, and the worst exit status is returned."""
    return max(_run(name, command) for name, command in (*_CHECKS, _LAYERS))


def test(arguments: argparse.Namespace) -> int:
    """Run the checks and then every test; ends with pytest's summary, before which a line names what was skipped.

    The layers are checked by one of the tests. A tool that `--require` names makes its tests fail instead of being skipped
    where it is missing: tests/conftest.py reads REQUIRE.
    """
    checks = max(_run(name, command) for name, command in _CHECKS)
    if checks:
        print("Lint or types failed, see above; the tests run all the same.", flush=True)
    environment = {**os.environ, "REQUIRE": ",".join(arguments.require), "INFRA_VENV": "current"}
    given = any(word in ("-n", "--pdb") or word.startswith("-n") for word in arguments.pytest_arguments)
    workers = [] if given else ["-n", _WORKERS]
    command = [sys.executable, "-m", "pytest", "-p", "infra.commands.skipped", *workers, *arguments.pytest_arguments]
    tests = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    return max(checks, tests)


def _run(name: str, command: list[str]) -> int:
    status = subprocess.run([sys.executable, *command], cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    print(f"{name}: {'ok' if status == 0 else 'FAILED'}", flush=True)
    return status
