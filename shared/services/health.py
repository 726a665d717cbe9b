"""Ask many instances at once whether they are ready, within a time limit; one that misbehaves stops no other (P36).

Checks run in threads and touch neither the database nor each other: what they found is stored afterwards, in one statement.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime, timedelta

from pydantic import SecretStr

from shared import log
from shared.errors import AppError, RemoteError
from shared.services.context import Context
from shared.services.patience import Patience
from shared.services.store.observations import Checked
from shared.services.verdicts import Watched, must_ask_whom


class DatabaseClock:
    """The database's clock, read once and carried on by our own; never ahead of it."""

    def __init__(self, read: datetime) -> None:
        """*read* is the database's `now()` of a statement that just returned."""
        self._read = read
        self._at = time.monotonic()

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        return self._read + timedelta(seconds=time.monotonic() - self._at)


def check(
    due: Sequence[Watched], context: Context, *, clock: DatabaseClock, patience: Patience, wake: Sequence[Watched] = ()
) -> list[Checked]:
    """Ask *due* in their order whether they are ready, and send *wake* the request that wakes them.

    No check begins once the patience allows no whole one any more (or, with little of it, after half); those not reached have
    no result. What a wake-up call answers is no verdict: a sleeping instance is not unhealthy (P32).
    """
    if not due and not wake:
        return []
    left = patience.left()
    begin_within = Patience(left - min(context.settings.health_timeout_seconds, left / 2))
    workers = min(context.settings.health_concurrency, len(due) + len(wake))
    with ThreadPoolExecutor(workers, thread_name_prefix="health") as threads:
        for row in wake:
            threads.submit(copy_context().run, _wake, row, context, begin_within)
        checks = [threads.submit(copy_context().run, _check, row, context, clock, begin_within) for row in due]
    return [found for found in (one.result() for one in checks) if found is not None]


def _check(row: Watched, context: Context, clock: DatabaseClock, begin_within: Patience) -> Checked | None:
    if begin_within.left() <= 0:
        return None
    at = clock.now()
    try:
        url, token = _address(row, context)
        health = context.runtime.health(url, token)
        if not must_ask_whom(row, health.verdict):
            return Checked(row, health.verdict, health.reason, at)
        return _ask_whom(Checked(row, health.verdict, health.reason, at), url, token, context)
    except AppError as error:
        log.error("health.not_checked", instance_id=row.id, reason=error.message)
        return None


def _ask_whom(checked: Checked, url: str, token: SecretStr, context: Context) -> Checked:
    """Ask a ready agent whom it is talking to; when it does not tell, it is asked again with the next check."""
    try:
        status = context.runtime.status(url, token)
    except RemoteError as error:
        log.warning("conversation.not_told", instance_id=checked.of.id, reason=error.message)
        return checked
    return Checked(
        checked.of,
        checked.verdict,
        checked.reason,
        checked.at,
        told=True,
        conversation_id=status.conversation_id if status else None,
        clean=status.clean if status else None,
    )


def _wake(row: Watched, context: Context, begin_within: Patience) -> None:
    if begin_within.left() <= 0:
        return
    try:
        context.runtime.health(*_address(row, context))
    except AppError as error:
        log.error("health.not_checked", instance_id=row.id, reason=error.message)


def _address(row: Watched, context: Context) -> tuple[str, SecretStr]:
    """Return where the instance is and what it is asked with; AppError when it has neither."""
    url = row.url(context.settings.instance_url_template)
    if url is None or row.gateway_token is None:
        raise AppError("The instance has no address or no token.")
    return url, context.ring.unseal(row.gateway_token, instance_id=row.id, column="gateway_token")
