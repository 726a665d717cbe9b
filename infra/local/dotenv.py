"""Reads a `.env` file: NAME=value lines, comments, quotes. Nothing in it is executed or expanded."""

from __future__ import annotations

import re
from pathlib import Path

from infra.problem import Problem

_LINE = re.compile(r"^(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$")
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def read(file: Path) -> dict[str, str]:
    """Return the variables of *file*, or none when there is no such file; Problem names a line that cannot be read.

    `'single quotes'` keep everything, `"double quotes"` know \\n, \\" and \\\\, and an unquoted value ends before ` #`.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} cannot be read: {error}.") from None
    return parse(text, name=str(file))


def parse(text: str, *, name: str = ".env") -> dict[str, str]:
    """Return the variables in *text*; the last line that names a variable wins."""
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        value = _value(match[2]) if match else None
        if match is None or value is None:
            raise Problem(f"{name}, line {number}: write NAME=value (a value with spaces at its ends or a # in quotes).")
        found[match[1]] = value
    return found


def _value(text: str) -> str | None:
    """Read a value, or None when its quotes do not match."""
    if text[:1] not in ("'", '"'):
        return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
    quoted = re.match(r"""^(?:'([^']*)'|"((?:[^"\\]|\\.)*)")\s*(?:#.*)?$""", text)
    if quoted is None:
        return None
    if quoted[1] is not None:
        return quoted[1]
    return re.sub(r'\\[n"\\]', lambda escape: _ESCAPES[escape[0]], quoted[2])
