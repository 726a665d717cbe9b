"""From parsed arguments to a running command: environment first, then the handler, then its exit status.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from infra import environment
from infra.problem import Problem


def dispatch(arguments: argparse.Namespace, argv: list[str]) -> int:
    """Run the command that *arguments* name and return its exit status; *argv* is repeated inside the environment."""
    try:
        environment.enter(arguments.needs, argv)
        module, _, name = arguments.handler.partition(":")
        status = int(getattr(importlib.import_module(module), name)(arguments) or 0)
        sys.stdout.flush()
        return status
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): what is still buffered must not be tried again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
