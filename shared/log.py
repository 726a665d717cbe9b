"""One JSON line per event, in the shape that Cloud Logging reads.

Events are noun.past (`instance.claimed`) with an `instance_id` where there is one. No secret, instruction, invite or body
is ever passed here; the request id and the trace come from the context of the request.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO


@dataclass(frozen=True)
class Trace:
    """What ties the lines of one request together, over all functions it passes through."""

    request_id: str
    trace_id: str = ""
    span_id: str = ""
    project: str = ""
    function: str = ""


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def current() -> Trace | None:
    """Return the trace of the request being served, or None outside of one."""
    return _current.get()


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Attach *trace* to every line logged inside the block (by this thread)."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)


def info(event: str, **fields: object) -> None:
    """Record something that happened as intended."""
    _write("INFO", event, fields)


def warning(event: str, **fields: object) -> None:
    """Record something that a person may want to look into."""
    _write("WARNING", event, fields)


def error(event: str, *, exception: BaseException | None = None, **fields: object) -> None:
    """Record a failure; with *exception*, also where it came from."""
    if exception is not None:
        frames = traceback.extract_tb(exception.__traceback__)
        fields["exception"] = type(exception).__name__
        fields["stack"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]]
    _write("ERROR", event, fields)


def _write(severity: str, event: str, fields: dict[str, object], stream: TextIO | None = None) -> None:
    line: dict[str, object] = {"severity": severity, "message": event, "time": datetime.now(UTC).isoformat()}
    trace = _current.get()
    if trace is not None:
        line["request_id"] = trace.request_id
        if trace.function:
            line["function"] = trace.function
        if trace.trace_id:
            line["logging.googleapis.com/trace"] = (
                f"projects/{trace.project}/traces/{trace.trace_id}" if trace.project else trace.trace_id
            )
        if trace.span_id:
            line["logging.googleapis.com/spanId"] = trace.span_id
    line.update(fields)
    print(json.dumps(line, default=str), file=stream or sys.stderr, flush=True)
