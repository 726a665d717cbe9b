"""What anybody and what operators may read of the pool. Only our own database is asked, but for an instance's ledger."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shared.api.pool import (
    Agent,
    AgentDetails,
    Agents,
    ClaimRecord,
    Counts,
    Event,
    Events,
    Health,
    Info,
    PoolStatus,
    SweepRecord,
    Sweeps,
    Tick,
    Ticks,
    Version,
)
from shared.errors import NotFoundError, RemoteError, RequestError
from shared.pool import store
from shared.pool.context import Context
from shared.pool.lifecycle import Status
from shared.pool.operate import as_operation
from shared.version import VERSION

PAGE = 100
MOST = 500


def health(context: Context) -> Health:
    """Answer when the database answers; DatabaseUnavailableError otherwise."""
    store.ping(context.db)
    return Health()


def version() -> Version:
    """Tell which code runs."""
    return Version(version=VERSION)


def counts(context: Context) -> Counts:
    """Count instances by status."""
    found = store.count_by_status(context.db).counts
    limits = store.read_limits(context.db, context.settings)
    return Counts(
        counts=found,
        total=sum(found.values()),
        target=limits.min_idle,
        max_instances=limits.max_instances,
        paused=limits.paused,
    )


def info(context: Context) -> Info:
    """Tell what this pool is."""
    limits = store.read_limits(context.db, context.settings)
    return Info(
        environment=context.settings.pool_environment,
        version=VERSION,
        target=limits.min_idle,
        max_instances=limits.max_instances,
        create_concurrency=limits.create_concurrency,
        paused=limits.paused,
    )


def status(context: Context) -> PoolStatus:
    """Show the pool at a glance."""
    latest = store.list_ticks(context.db, most=1)
    last_tick = _tick(latest[0]) if latest else None
    return PoolStatus(
        environment=context.settings.pool_environment,
        counts=counts(context),
        desired_image=store.read_limits(context.db, context.settings).desired_image,
        last_tick=last_tick,
        warnings=last_tick.warnings if last_tick else ["no tick has run yet"],
        operations=[as_operation(row) for row in store.list_running_operations(context.db, most=20)],
    )


def agents(query: Mapping[str, str], context: Context) -> Agents:
    """List instances; `status` (comma-separated), `limit` and `cursor` choose."""
    most = _limit(query)
    statuses = [part.strip() for part in query["status"].split(",")] if query.get("status") else None
    unknown = sorted(set(statuses or ()) - set(Status))
    if unknown:
        raise RequestError(f"Unknown status {unknown[0][:40]!r}; there are {', '.join(Status)}.", code="invalid_query")
    rows = store.list_agents(context.db, most=most + 1, statuses=statuses, after=_position(query.get("cursor")))
    shown = [_agent(row) for row in rows[:most]]
    more = len(rows) > most
    return Agents(agents=shown, next=_cursor(shown[-1]) if more else None)


def agent(instance_id: str, context: Context) -> AgentDetails:
    """Show everything known about one instance."""
    rows = store.list_agents(context.db, most=1, only=instance_id)
    if not rows:
        raise NotFoundError("There is no such instance.")
    claim = store.read_claim(context.db, rows[0]["claim_id"]) if rows[0]["claim_id"] else None
    try:
        resources = context.services.resources(instance_id).model_dump(mode="json", by_alias=True)
    except RemoteError:
        resources = None
    return AgentDetails(
        agent=_agent(rows[0]),
        claim=ClaimRecord.model_validate({**claim, "claim_id": str(claim["id"])}) if claim else None,
        resources=resources,
        events=[_event(row) for row in store.list_events(context.db, most=PAGE, instance_id=instance_id)],
    )


def ticks(query: Mapping[str, str], context: Context) -> Ticks:
    """List the latest ticks, newest first."""
    return Ticks(ticks=[_tick(row) for row in store.list_ticks(context.db, most=_limit(query))])


def events(query: Mapping[str, str], context: Context) -> Events:
    """List events, newest first; `instanceId`, `limit` and `cursor` choose."""
    most = _limit(query)
    cursor = query.get("cursor")
    if cursor is not None and not (cursor.isdecimal() and len(cursor) < 19):
        raise RequestError("The cursor is not one of ours.", code="invalid_query")
    rows = store.list_events(
        context.db, most=most + 1, instance_id=query.get("instanceId"), before=int(cursor) if cursor else None
    )
    shown = [_event(row) for row in rows[:most]]
    return Events(events=shown, next=str(shown[-1].id) if len(rows) > most else None)


def sweeps(query: Mapping[str, str], context: Context) -> Sweeps:
    """List what the latest sweeps found, newest first."""
    return Sweeps(sweeps=[SweepRecord.model_validate(row) for row in store.list_sweeps(context.db, most=_limit(query))])


def tools(context: Context) -> Any:
    """Show the services side's registry of tools."""
    return context.services.registry()


def _limit(query: Mapping[str, str]) -> int:
    text = query.get("limit", str(PAGE))
    if not (text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise RequestError(f"limit is a whole number from 1 to {MOST}.", code="invalid_query")
    return int(text)


def _cursor(last: Agent) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.created_at.isoformat(), last.instance_id]).encode()).decode()


def _position(cursor: str | None) -> tuple[str, str] | None:
    if cursor is None:
        return None
    try:
        created, instance_id = json.loads(base64.urlsafe_b64decode(cursor))
        return datetime.fromisoformat(created).astimezone(UTC).isoformat(), str(instance_id)
    except (binascii.Error, ValueError, TypeError, OverflowError, RecursionError):
        raise RequestError("The cursor is not one of ours.", code="invalid_query") from None


def _agent(row: Mapping[str, Any]) -> Agent:
    claim_id = str(row["claim_id"]) if row["claim_id"] else None
    return Agent.model_validate({**row, "instance_id": row["id"], "claim_id": claim_id})


def _tick(row: Mapping[str, Any]) -> Tick:
    return Tick.model_validate(row)


def _event(row: Mapping[str, Any]) -> Event:
    return Event.model_validate({**row, "claim_id": str(row["claim_id"]) if row["claim_id"] else None})
