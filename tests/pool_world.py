"""Both sides in process: the pool side on top of `tests.world`, meeting the services side over HTTP as in production.

The pool's functions are reached through the route table with their key; ticks run when a test says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from infra.local.gateway import Gateway
from shared.db import Database
from shared.pool.context import Context
from shared.pool.services_api import ServicesApi
from shared.pool.settings import PoolSettings
from shared.pool.tick_api import TickApi
from tests import world as services_world
from tests.factories import query, statuses
from tests.world import Deaths, InProcess, World, serve

POOL_KEY = "the-key-of-the-pool"


@dataclass
class Pool:
    """Everything a test of the whole system may look at or provoke."""

    world: World
    db: Database
    context: Context
    front: Gateway
    """Every function of the pool side behind the one route table."""
    http: httpx.Client
    """Calls the front door with the pool's key."""

    def claim(self, **fields: Any) -> httpx.Response:
        """Claim an agent."""
        return self.http.post("/api/pool/claim", json=fields)

    def tick(self, **fields: Any) -> dict[str, Any]:
        """Run a tick as the scheduler does; the host's machines have moved on since the last one."""
        self.world.railway.poke()
        key = services_world.SERVICES_KEY
        answer = self.http.post("/tick", json=fields, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def warm_up(self, *, ticks: int = 8) -> None:
        """Run ticks until as many are idle as the target asks for."""
        target = self.http.get("/api/pool/counts").json()["target"]
        for _ in range(ticks):
            self.let_time_pass()
            self.tick()
            if list(self.statuses().values()).count("idle") >= target:
                return
        raise AssertionError(f"the pool did not warm up: {self.statuses()} {self.last_tick()}")

    def let_time_pass(self, seconds: float = 120) -> None:
        """Let time pass on the services side: leases run out, rests are over, listings are due."""
        self.world.let_time_pass()
        gap = f"interval '{seconds} seconds'"
        self.world.run(f"UPDATE services.listings SET began_at = began_at - {gap}, ended_at = ended_at - {gap};")
        self.world.run(
            f"UPDATE services.instances SET seen_at = seen_at - {gap}, missing_since = missing_since - {gap}, "
            f"built_at = built_at - {gap}, checked_at = checked_at - {gap}, failing_since = failing_since - {gap};"
        )
        self.world.run("DELETE FROM services.leases;")

    def expire_claims(self) -> None:
        """Have the lease of every claim in progress run out."""
        self.db.run(
            query(
                "UPDATE pool.instances SET lease_expires_at = now() - interval '1 s', not_after = now() - interval '20 s' "
                "WHERE status = 'claiming'"
            )
        )

    def statuses(self) -> dict[str, str]:
        """Return the status of every instance."""
        return statuses(self.db)

    def last_tick(self) -> dict[str, Any]:
        """Return the record of the last tick."""
        found: dict[str, Any] = self.http.get("/api/pool/ticks", params={"limit": 1}).json()["ticks"][0]
        return found

    def close(self) -> None:
        """Close what was opened."""
        self.http.close()
        self.db.close()
        self.world.close()


def build(database_url: str, *, services: Mapping[str, str | None] | None = None, **settings: Any) -> Pool:
    """Build both sides on one database; *settings* are those of the pool by their field names."""
    world = services_world.build(database_url, **(services or {}))
    own = PoolSettings.model_validate(
        {
            "pool_database_url": database_url,
            "pool_api_key": POOL_KEY,
            "pool_environment": services_world.ENVIRONMENT,
            "services_url": "http://services",
            "services_api_key": services_world.SERVICES_KEY,
            "sweep_interval_seconds": 0,
            **settings,
        }
    )
    db = Database(own.pool_database_url, max_connections=8)
    context = Context(
        db=db,
        services=ServicesApi(own.services_url, own.services_api_key, transport=InProcess(world.gateway, Deaths())),
        tick=TickApi("http://pool", own.services_api_key),
        settings=own,
    )
    ticking = InProcess(serve({"tick": context}), Deaths())
    context = replace(context, tick=TickApi("http://pool", own.services_api_key, transport=ticking))
    front = serve(dict.fromkeys(("claim", "tick", "pool"), context))
    transport = InProcess(front, Deaths())
    http = httpx.Client(base_url="http://pool", transport=transport, headers={"Authorization": f"Bearer {POOL_KEY}"})
    return Pool(world, db, context, front, http)
