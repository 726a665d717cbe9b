"""A plugin of pytest that writes down which tools were missing, for the closing line of `python3 -m infra test`.

A test that needs one is skipped as "needs <name>" (see `require_tool` in tests/conftest.py).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_REASON = re.compile(r"needs ([a-z0-9_-]+)$")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write the names, one per line, to the file that MISSING_TOOLS_FILE names."""
    names = set()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found = _REASON.search(reason)
        if found:
            names.add(found[1])
    Path(os.environ["MISSING_TOOLS_FILE"]).write_text("\n".join(sorted(names)))
