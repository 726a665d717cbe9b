"""`logs`: the lines that the processes of the local stack write."""

from __future__ import annotations

import argparse
import sys

from infra.local.logfiles import follow, parse, short
from infra.local.stackfolder import StackFolder
from infra.problem import Problem


def run(arguments: argparse.Namespace) -> int:
    """Print the lines, in short form; with --follow, wait for more until Ctrl-C."""
    folder = StackFolder(arguments.state).logs
    files = sorted(folder.glob("*.log"))
    if arguments.process:
        names = [file.stem for file in files]
        files = [file for file in files if file.stem == arguments.process]
        if not files:
            raise Problem(f"There is no log of {arguments.process!r}; there are: {', '.join(names) or 'none yet'}.")
    if not files:
        raise Problem(f"There are no logs in {folder}; start the stack with: python3 -m infra up")
    found = False
    for process, line in follow(files, from_start=True, ended=lambda: not arguments.follow):
        if arguments.instance and not _is_about(line, arguments.instance):
            continue
        found = True
        print(line if arguments.json else short(process, line), flush=arguments.follow)
    if not found:
        about = f" about {arguments.instance}" if arguments.instance else ""
        print(f"No line{about} has been written yet.", file=sys.stderr)
    return 0


def _is_about(line: str, instance_id: str) -> bool:
    found = parse(line)
    return found is not None and instance_id in (found.get("instance_id"), found.get("instanceId"))
