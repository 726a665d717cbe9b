"""Serve one agent on $PORT, with the environment of the container as the agent's own."""

from __future__ import annotations

import os

from werkzeug.serving import make_server

from infra.runtime.agent import Agent

DEFAULT_PORT = 8080


def main() -> None:
    """Serve until the process is ended."""
    environment = dict(os.environ)
    agent = Agent(environment, environment.get("RUNTIME_IMAGE", "stand-in:latest"), controls=False)
    port = int(environment.get("PORT", DEFAULT_PORT))
    make_server("0.0.0.0", port, agent, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
