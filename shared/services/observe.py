"""Tell the state of many instances: from the last listing, from single readings where it is too old, and from health checks.

However many instances a batch has, it costs one listing at most (which serves all callers), a fixed number of statements, and a
bounded number of provider calls (P34).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shared import log
from shared.api.services import MAX_BATCH, Listing, Observed, ServiceStatus, StatusBatch, StatusPage
from shared.errors import RemoteError
from shared.services import health, image, listing
from shared.services.context import Context
from shared.services.health import DatabaseClock
from shared.services.hosting.base import Seen
from shared.services.patience import Patience
from shared.services.store import observations
from shared.services.store.observations import Batch, Changes
from shared.services.verdicts import SLEEPING, Watched, due_for_check, observed, uncovered

MAX_READINGS = 10
"""How many instances being started are read one by one in one batch."""
STALE_SECONDS = 4.0
"""How old the last observation of an instance being started may be before it is read by itself."""
_HOST = "The host"


@dataclass(frozen=True)
class _Asked:
    """Which instances a request is about, once."""

    ids: tuple[str, ...] | None
    after: str
    wake: frozenset[str]


def status_batch(request: StatusBatch, context: Context) -> StatusPage:
    """Return the state of the instances asked for, or of one page of all that are not taken down.

    An id without a row is `unregistered`. What the deadline does not reach keeps its last verdict; so does everything, where
    the provider or an instance does not answer in a way that proves something.
    """
    patience = Patience(request.deadline_seconds)
    host_answers = listing.refresh_if_due(context, patience.part(0.5))
    asked = _Asked(
        None if request.instance_ids is None else tuple(dict.fromkeys(request.instance_ids)),
        request.cursor or "",
        frozenset(request.wake),
    )
    batch = _read(asked, context)
    clock = DatabaseClock(batch.now)
    if host_answers and not batch.scarce:
        batch = _with_readings(batch, asked, context, clock=clock, patience=patience.part(0.4))
    batch = _with_checks(batch, asked, context, clock=clock, patience=patience, max_age_seconds=request.max_age_seconds)
    pinned = image.pinned(image.refresh_if_due(batch.image, context, patience))
    return StatusPage(
        instances=_answers(asked.ids, batch.watched, context),
        next=_next_cursor(batch) if asked.ids is None else None,
        listing=Listing(id=batch.listing.id, at=batch.listing.at, complete=batch.listing.complete),
        current_image=pinned,
    )


def _read(asked: _Asked, context: Context) -> Batch:
    return observations.read_batch(
        context.db,
        asked.ids,
        after=asked.after,
        count=MAX_BATCH,
        first_image=context.settings.railway_runtime_image,
    )


def _with_readings(batch: Batch, asked: _Asked, context: Context, *, clock: DatabaseClock, patience: Patience) -> Batch:
    """Read by id what is being started and was not seen lately, store it, and return the batch as it is now.

    The first failure ends it: the host is not asked ten times whether it is down. An instance that the host does not know is
    left as it was: only complete listings tell that one is gone.
    """
    starting = uncovered(batch.watched, now=batch.now, woken=asked.wake, stale_seconds=STALE_SECONDS)
    seen: list[tuple[Seen, datetime]] = []
    for row in starting[:MAX_READINGS]:
        began_at = clock.now()
        try:
            one = patience.ask(functools.partial(context.host.read, row.placement), system=_HOST, during="reading an instance")
        except RemoteError as error:
            log.warning("instance.not_read", instance_id=row.id, reason=error.message)
            break
        if one is not None:
            seen.append((one, began_at))
    return _after(batch, observations.record_seen(context.db, seen)) if seen else batch


def _with_checks(
    batch: Batch, asked: _Asked, context: Context, *, clock: DatabaseClock, patience: Patience, max_age_seconds: float
) -> Batch:
    """Check who is due, store the verdicts, and return the batch as it is now."""
    due = due_for_check(batch.watched, now=batch.now, max_age_seconds=max_age_seconds)
    wake = [row for row in batch.watched if row.id in asked.wake and row.state == "created" and row.deploy_status == SLEEPING]
    checked = health.check(due, context, clock=clock, patience=patience, wake=wake)
    return _after(batch, observations.record_verdicts(context.db, checked))


def _after(batch: Batch, changes: Changes) -> Batch:
    return replace(batch, watched=tuple(changes.applied_to(row) for row in batch.watched))


def _answers(ids: Sequence[str] | None, rows: Sequence[Watched], context: Context) -> dict[str, Observed]:
    known = {row.id: observed(row, url=row.url(context.settings.instance_url_template)) for row in rows}
    if ids is None:
        return known
    unregistered = Observed(status=ServiceStatus.UNREGISTERED, reason="There is no instance of that id here.")
    return {instance_id: known.get(instance_id, unregistered) for instance_id in ids}


def _next_cursor(batch: Batch) -> str | None:
    return batch.watched[-1].id if len(batch.watched) == MAX_BATCH else None
