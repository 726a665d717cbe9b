"""The operator's commands: one function per command, each one or two calls of the front door."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from infra.commands.client import PoolClient, connect
from infra.commands.tables import ago, brief, fields, table


def status(arguments: argparse.Namespace) -> int:
    """Show the pool at a glance."""
    return _show(arguments, connect(arguments).get("/api/pool/status"), _status_text)


def claim(arguments: argparse.Namespace) -> int:
    """Claim an agent."""
    wanted = {"agentName": arguments.name, "instructions": arguments.instructions, "joinUrl": arguments.join}
    body = {name: value for name, value in wanted.items() if value is not None}
    return _show(arguments, connect(arguments).send("POST", "/api/pool/claim", body), _fields_text)


def drain(arguments: argparse.Namespace) -> int:
    """Destroy instances that nobody has claimed, the oldest first."""
    body: dict[str, Any] = {"all": True} if arguments.all else {"count": arguments.count}
    return _operate(arguments, "POST", "/api/pool/drain", {**body, "pause": arguments.pause})


def replenish(arguments: argparse.Namespace) -> int:
    """Fill the pool up to its target now."""
    return _operate(arguments, "POST", "/api/pool/replenish", {} if arguments.count is None else {"count": arguments.count})


def kill(arguments: argparse.Namespace) -> int:
    """Destroy one instance."""
    return _operate(arguments, "DELETE", f"/api/pool/instances/{quote(arguments.instance, safe='')}", None)


def pause(arguments: argparse.Namespace) -> int:
    """Stop creating instances."""
    body = {} if arguments.reason is None else {"reason": arguments.reason}
    return _show(arguments, connect(arguments).send("POST", "/api/pool/pause", body), _settings_text)


def resume(arguments: argparse.Namespace) -> int:
    """Create instances again."""
    return _show(arguments, connect(arguments).send("POST", "/api/pool/resume", {}), _settings_text)


def protect(arguments: argparse.Namespace) -> int:
    """Let nobody destroy an instance."""
    return _set_protection(arguments, "protect")


def unprotect(arguments: argparse.Namespace) -> int:
    """End an instance's protection."""
    return _set_protection(arguments, "unprotect")


def agents(arguments: argparse.Namespace) -> int:
    """List the instances, every page of them."""
    client = connect(arguments)
    query = {} if arguments.status is None else {"status": arguments.status}
    page = client.get("/api/pool/agents", **query)
    found = {"agents": list(page["agents"])}
    while page["next"]:
        page = client.get("/api/pool/agents", **query, cursor=page["next"])
        found["agents"] += page["agents"]
    return _show(arguments, found, _agents_text)


def show(arguments: argparse.Namespace) -> int:
    """Show all about one instance."""
    found = connect(arguments).get(f"/api/pool/instances/{quote(arguments.instance, safe='')}")
    return _show(arguments, found, _details_text)


def ticks(arguments: argparse.Namespace) -> int:
    """Show what the last ticks saw, decided and did."""
    return _show(arguments, connect(arguments).get("/api/pool/ticks", limit=str(arguments.limit)), _ticks_text)


def events(arguments: argparse.Namespace) -> int:
    """Show what happened lately."""
    query = {} if arguments.instance is None else {"instanceId": arguments.instance}
    return _show(arguments, connect(arguments).get("/api/pool/events", limit=str(arguments.limit), **query), _events_text)


def _operate(arguments: argparse.Namespace, method: str, path: str, body: dict[str, Any] | None) -> int:
    """Ask for long work and follow it until it is over."""
    client: PoolClient = connect(arguments)
    operation = client.follow(client.send(method, path, body), lambda sentence: print(sentence, file=sys.stderr, flush=True))
    return _show(arguments, operation, _operation_text)


def _set_protection(arguments: argparse.Namespace, verb: str) -> int:
    path = f"/api/pool/instances/{quote(arguments.instance, safe='')}/{verb}"
    return _show(arguments, connect(arguments).send("POST", path), _details_text)


def _show(arguments: argparse.Namespace, found: Any, text: Callable[[Any], str]) -> int:
    print(json.dumps(found, indent=2) if arguments.json else text(found))
    return 0


def _status_text(found: dict[str, Any]) -> str:
    counts = found["counts"]
    lines = [
        ("environment", found["environment"]),
        ("idle", f"{counts['counts'].get('idle', 0)} of {counts['target']}" + (" (paused)" if counts["paused"] else "")),
        ("instances", f"{counts['total']} of at most {counts['maxInstances']} ({brief(counts['counts'])})"),
    ]
    if found["lastTick"]:
        tick = found["lastTick"]
        lines.append(("last tick", f"{ago(tick['startedAt'])} ago, {tick['outcome']}"))
    lines += [("warning", warning) for warning in found["warnings"]]
    lines += [(one["kind"], f"{one['done']} of {one['total']}, {one['status']}") for one in found["operations"]]
    return fields(lines)


def _agents_text(found: dict[str, Any]) -> str:
    rows = [
        (
            one["instanceId"],
            one["status"],
            ago(one["statusSince"]),
            one["agentName"],
            one["observed"],
            one["protected"],
            one["reason"] or one["healthReason"],
        )
        for one in found["agents"]
    ]
    return table(("instance", "status", "since", "agent", "observed", "protected", "reason"), rows)


def _details_text(found: dict[str, Any]) -> str:
    parts = [_fields_text(found["agent"])]
    if found["claim"]:
        parts.append("claim\n" + _fields_text(found["claim"]))
    if found["resources"]:
        rows = [(one["tool"], one["status"], one["resourceId"], one["reason"]) for one in found["resources"].get("tools", [])]
        parts.append(table(("tool", "status", "resource", "reason"), rows, longest=None))
    parts.append(_events_text(found))
    return "\n\n".join(parts)


def _ticks_text(found: dict[str, Any]) -> str:
    rows = [
        (
            one["id"],
            ago(one["startedAt"]),
            one["outcome"],
            brief(one["seen"].get("statuses") or {}),
            brief(one["decided"]),
            brief(one["done"]),
        )
        for one in found["ticks"]
    ]
    return table(("tick", "ago", "outcome", "seen", "decided", "done"), rows)


def _events_text(found: dict[str, Any]) -> str:
    rows = [
        (ago(one["at"]), one["kind"], one["instanceId"], one["actor"], brief(one["details"] or {})) for one in found["events"]
    ]
    return table(("ago", "event", "instance", "by", "details"), rows)


def _operation_text(found: dict[str, Any]) -> str:
    ids = found["instanceIds"]
    if found["status"] == "done" and not found["total"]:
        return f"{found['kind']}: there was nothing to do"
    return f"{found['kind']}: {found['status']}, {found['done']} of {found['total']}" + "".join(f"\n  {one}" for one in ids)


def _settings_text(found: dict[str, Any]) -> str:
    if not found["paused"]:
        return f"The pool creates instances: it keeps {found['minIdle']} idle, and has at most {found['maxInstances']} in all."
    reason = f" ({found['pausedReason']})" if found.get("pausedReason") else ""
    return f"The pool is paused{reason}: no instance is created until `resume`; those that are there can be claimed."


def _fields_text(found: dict[str, Any]) -> str:
    return fields((name, brief(value) if isinstance(value, dict) else value) for name, value in found.items())
