"""A plugin of pytest for `python3 -m infra test`: one line, before pytest's own summary, that names which tools were missing.

A test that needs one is skipped as "needs <name>" (see `require_tool` in tests/conftest.py).
"""

from __future__ import annotations

import re
from typing import Any

_REASON = re.compile(r"needs ([a-z0-9_-]+)$")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the names."""
    names = set()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found = _REASON.search(reason)
        if found:
            names.add(found[1])
    terminalreporter.write_line(f"Skipped for lack of a tool: {', '.join(sorted(names)) or 'nothing'}.")
