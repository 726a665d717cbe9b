"""Tables and moments for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

_LONGEST_CELL = 60


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]], *, longest: int | None = _LONGEST_CELL) -> str:
    """Return aligned columns, cells cut at *longest*; an empty table says so."""
    cells = [[_cell(value, longest) for value in row] for row in rows]
    if not cells:
        return "nothing to show"
    lines = [list(headings), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def fields(pairs: Iterable[tuple[str, Any]]) -> str:
    """Return one `name  value` line for each pair that has a value."""
    shown = [(name, _text(value)) for name, value in pairs if value not in (None, "", [], {})]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def ago(moment: str | None, *, now: datetime | None = None) -> str:
    """Say how long ago an ISO moment was: `12 s`, `5 min`, `3 h`, `2 d`."""
    if not moment:
        return ""
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def brief(found: dict[str, Any]) -> str:
    """Say an object of numbers and words in a line; what is empty is left out."""
    parts = []
    for name, value in found.items():
        if isinstance(value, dict):
            value = "{" + brief(value) + "}" if value else ""
        elif isinstance(value, list):
            value = len(value) if len(value) > 3 else ",".join(map(str, value))
        if value not in (None, "", 0, False, "{}"):
            parts.append(f"{name} {value}")
    return ", ".join(parts)


def _text(value: Any) -> str:
    return "yes" if value is True else "no" if value is False else str(value)


def _cell(value: Any, longest: int | None) -> str:
    text = "" if value is None or value is False else _text(value).replace("\n", " ")
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"
