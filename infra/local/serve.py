"""A process of the local stack: `python -m infra.local.serve <plan>`, started by `processes.py`.

The plan is JSON without secrets (see `processes.Plan`); settings come by the environment. Functions are loaded by the
framework exactly as in production, several in one process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import functions_framework

from infra import routes
from infra.local import vendors
from infra.local.gateway import Gateway, Proxy
from infra.local.server import Server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def main(argv: list[str]) -> None:
    """Serve what the plan names until told to stop."""
    plan: dict[str, Any] = json.loads(argv[0])
    if plan["simulators"]:
        stage = vendors.Stage(plan["simulators"])
        Server(stage.open, name=plan["name"], port=plan["port"], threads=plan["threads"], at_exit=stage.close).run()
    else:
        Server(
            lambda: build_gateway(plan["local"], plan["remote"]), name=plan["name"], port=plan["port"], threads=plan["threads"]
        ).run()


def build_gateway(local: list[str], remote: dict[str, str]) -> Gateway:
    """Load the functions in *local*, and reach those in *remote* at their addresses."""
    table = routes.load()
    functions = {function.name: function for function in table.functions}
    return Gateway(
        table,
        local={name: load_function(functions[name]) for name in local},
        remote={name: Proxy(name, address) for name, address in remote.items()},
    )


def load_function(function: routes.Function) -> WSGIApplication:
    """Load one function as the framework does when it is deployed."""
    create: Callable[..., WSGIApplication] = functions_framework.create_app
    return create(target=function.name, source=str(function.source))


if __name__ == "__main__":
    main(sys.argv[1:])
