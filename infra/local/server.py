"""A gunicorn server in this process: one worker, many threads, as the functions run in production."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_STOP_SECONDS = 5


class Server(BaseApplication):  # type: ignore[misc]
    """Serves what *build* returns. *build* runs in the worker, after the fork: threads and connections are safe there."""

    def __init__(
        self,
        build: Callable[[], WSGIApplication],
        *,
        name: str,
        port: int,
        threads: int,
        at_exit: Callable[[], None] | None = None,
    ) -> None:
        self._build = build
        self._options: dict[str, Any] = {
            "bind": f"127.0.0.1:{port}",
            "proc_name": name,
            "worker_class": "gthread",
            "workers": 1,
            "threads": threads,
            "timeout": 0,
            "keepalive": 60,
            "graceful_timeout": _STOP_SECONDS,
            "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
            "control_socket_disable": True,
            "loglevel": "warning",
            "accesslog": None,
        }
        if at_exit is not None:
            self._options["worker_exit"] = lambda server, worker: at_exit()
        super().__init__()

    def load_config(self) -> None:
        """Hand our options to gunicorn; nothing is read from files or the command line."""
        for name, value in self._options.items():
            if value is not None or name in ("accesslog",):
                self.cfg.set(name, value)

    def load(self) -> WSGIApplication:
        """Build the application, in the worker."""
        return self._build()
