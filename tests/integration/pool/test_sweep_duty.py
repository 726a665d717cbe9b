"""The sweep as operators see it: a slow duty of the tick, whose findings stay readable."""

from __future__ import annotations

from collections.abc import Callable

from tests.factories import query
from tests.pool_world import Pool


def sweeps(pool: Pool) -> list[dict[str, object]]:
    found: list[dict[str, object]] = pool.http.get("/api/pool/sweeps").json()["sweeps"]
    return found


def test_the_tick_sweeps_once_an_interval_and_keeps_what_was_found(make_pool: Callable[..., Pool]) -> None:
    """P26: an orphan is reported, and not touched."""
    pool = make_pool(sweep_interval_seconds=3600)
    pool.warm_up()
    assert len(sweeps(pool)) == 1
    orphan = pool.world.railway.add_service("convos-agent-test-orphan")
    pool.tick()
    assert len(sweeps(pool)) == 1
    pool.world.run("UPDATE services.leases SET expires_at = now() WHERE name = 'sweep';")
    pool.db.run(query("UPDATE pool.leases SET expires_at = now() - interval '1 s' WHERE name = 'sweep'"))
    pool.tick()
    newest = sweeps(pool)[0]["result"]
    assert isinstance(newest, dict)
    assert newest["mode"] == "report"
    assert newest["complete"]["hosting"] is True
    assert orphan in pool.world.railway.inventory()["services"]


def test_a_sweep_that_fails_is_a_warning_and_no_more(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(sweep_interval_seconds=3600)
    pool.world.run("ALTER TABLE services.findings RENAME TO away;")
    result = pool.tick()
    assert result["outcome"] == "done"
    assert any("sweep could not be done" in warning for warning in result["warnings"])
    assert sweeps(pool) == []
