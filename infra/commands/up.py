"""`up`: start everything on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from infra.local.up import Wishes, up


def run(arguments: argparse.Namespace) -> int:
    """Run the stack until Ctrl-C."""
    wishes = Wishes(
        port=arguments.port,
        fresh=arguments.fresh,
        simulators=arguments.vendors == "simulators",
        min_idle=arguments.min_idle,
        tick_seconds=arguments.tick_seconds,
        verbose=arguments.verbose,
        folder=Path(arguments.state),
    )
    up(wishes, say=_say)
    return 0


def _say(sentence: str) -> None:
    print(sentence, flush=True)
