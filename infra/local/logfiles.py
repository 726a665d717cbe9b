"""Reads the log files of the local stack: JSON lines of the functions, plain lines of everything else."""

from __future__ import annotations

import heapq
import json
import operator
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LOUD = ("WARNING", "ERROR", "CRITICAL")
_PAUSE_SECONDS = 0.3


def parse(line: str) -> dict[str, Any] | None:
    """Return a JSON line's fields, or None for a plain line."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def short(process: str, line: str) -> str:
    """Say a line in short: time, severity, process, event, and what else it carries."""
    found = parse(line)
    if found is None:
        return f"{process:<10} {line}"
    left_out = {"severity", "message", "time", "request_id", "stack"}
    rest = " ".join(f"{name}={value}" for name, value in found.items() if name not in left_out and "googleapis" not in name)
    at = str(found.get("time", ""))[11:19]
    return f"{at} {found.get('severity', ''):<7} {process:<10} {found.get('message', '')} {rest}".rstrip()


def follow(files: Sequence[Path], *, from_start: bool, ended: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """Yield (process, line) as lines are written, until *ended*; what stands there already only when *from_start*.

    The lines of one look are in the order of their times; one without a time stays behind the line before it.
    """
    places = {file: 0 if from_start or not file.exists() else file.stat().st_size for file in files}
    while True:
        last_round = ended()
        for _, file, line, end in heapq.merge(*(_timed(file, places) for file in files), key=operator.itemgetter(0)):
            places[file] = end
            yield file.stem, line
        if last_round:
            return
        time.sleep(_PAUSE_SECONDS)


def show_warnings(files: Sequence[Path], *, say: Callable[[str], None], ended: threading.Event) -> None:
    """Say every warning and error that is written from now on, from a thread that ends with the stack."""

    def run() -> None:
        for process, line in follow(files, from_start=False, ended=ended.is_set):
            found = parse(line)
            if found is None or found.get("severity") in LOUD:
                say(short(process, line))

    threading.Thread(target=run, name="warnings", daemon=True).start()


def _timed(file: Path, places: Mapping[Path, int]) -> Iterator[tuple[str, Path, str, int]]:
    """Yield what was added to *file* with its time, its place at the end; a file that became shorter is read anew."""
    shorter = file.exists() and file.stat().st_size < places[file]
    time_of_line = ""
    for line, end in _lines(file, 0 if shorter else places[file]):
        time_of_line = str((parse(line) or {}).get("time") or time_of_line)
        yield time_of_line, file, line, end


def _lines(file: Path, start: int) -> Iterator[tuple[str, int]]:
    """Yield the complete lines after *start*, each with the place where it ends."""
    if not file.exists():
        return
    with file.open("rb") as source:
        source.seek(start)
        for raw in source:
            if not raw.endswith(b"\n"):
                return
            start += len(raw)
            yield raw.decode(errors="replace").rstrip("\n"), start
