"""Databases for tests: copies of a migrated template on one server, and bare connections to them."""

from __future__ import annotations

import itertools

from infra.local import postgres
from infra.migrate import migrate
from shared.db.address import parse_address
from shared.db.wire import Limits, Wire


class Databases:
    """One server's databases: copies of a template, made in some 20 ms and dropped after the test."""

    def __init__(self, server: postgres.Server) -> None:
        self.server = server
        self._numbers = itertools.count(1)
        self._template = ""

    def create(self, *, migrated: bool = True) -> str:
        """Make a database, with both schemas or empty, and return its URL."""
        name = f"test_{next(self._numbers)}"
        template = self.template() if migrated else "template0"
        self._do(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.server.url(name)

    def drop(self, url: str) -> None:
        """Drop a database whoever is connected to it."""
        self._do(f"DROP DATABASE IF EXISTS {parse_address(url).database} WITH (FORCE)")

    def template(self) -> str:
        """The name of a database that is migrated once."""
        if not self._template:
            self._do("CREATE DATABASE migrated")
            for side in ("pool", "services"):
                migrate(side, self.server.url("migrated"), log=lambda _: None)
            self._template = "migrated"
        return self._template

    def _do(self, sql: str) -> None:
        wire = connect(self.server.url())
        try:
            wire.script(sql)
        finally:
            wire.hang_up()


def connect(url: str) -> Wire:
    """A bare connection, for what a test does beside the code under test."""
    return Wire(parse_address(url), tls=None, connect_seconds=5, limits=Limits(30, 10, 60), silence_seconds=40)
