"""The values of all settings for a run of the local stack, and where each comes from.

Later ones win: what the stack makes itself (addresses, keys), what the simulators need, the `.env` file, the environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from infra.local import vendors
from infra.problem import Problem
from infra.routes import Table

WITHOUT_SIMULATORS = ("RAILWAY_API_TOKEN", "RAILWAY_RUNTIME_IMAGE")
"""What `--vendors env` cannot do without: instances run at Railway. A plugin without its key is merely not configured."""
_OURS = re.compile(r"^(INFRA_VENV|POSTGRES_BINARIES)$")


def gather(*, pool_url: str, keys: Mapping[str, str], given: Mapping[str, str], simulators_url: str | None) -> dict[str, str]:
    """Return the settings of this run; *given* is what `.env` and the environment say, *simulators_url* where simulators are."""
    stack = {"POOL_ENVIRONMENT": "local", "POOL_URL": pool_url, **keys}
    simulated = vendors.settings(simulators_url, given=given) if simulators_url else {}
    return {**stack, **simulated, **{name: value for name, value in given.items() if value.strip()}}


def chosen(table: Table, *, file: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the `.env` file and the environment give, the latter winning.

    A name in the file that no function declares is refused, for it is most likely mistyped; the environment holds much else.
    """
    declared = {name for function in table.functions for name in function.variables}
    for name in file:
        if name not in declared and not _OURS.match(name):
            raise Problem(f"No function knows the setting {name} in .env; .env.example lists those that exist.")
    return {**file, **{name: value for name, value in environment.items() if name in declared and value.strip()}}


def require_vendors(values: Mapping[str, str]) -> None:
    """Raise Problem naming what a run without simulators still lacks."""
    missing = [name for name in WITHOUT_SIMULATORS if not values.get(name, "").strip()]
    if values.get("RAILWAY_TOPOLOGY", "shared") == "shared":
        missing += [] if values.get("RAILWAY_PROJECT_ID") else ["RAILWAY_PROJECT_ID"]
        if not (values.get("RAILWAY_ENVIRONMENT_ID") or values.get("RAILWAY_ENVIRONMENT_NAME")):
            missing.append("RAILWAY_ENVIRONMENT_ID or RAILWAY_ENVIRONMENT_NAME")
    if missing:
        raise Problem(f"Without simulators these settings are needed, in .env or the environment: {', '.join(missing)}.")
