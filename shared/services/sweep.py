"""Compare everything that the vendors hold under our names with our tables, in both directions (P17, P26, P35).

A difference is believed when the vendor was listed to its end and our tables, read before and after the listing, both times
disagree with it. It is told at once, and acted upon only if the setting says so, when two sweeps saw it at least a minute apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from shared import log
from shared.api.services import Finding, Sweep, SweepResult
from shared.errors import AppError, ConflictError
from shared.services import names
from shared.services.context import Context
from shared.services.destroy import carry_on_abandoned
from shared.services.inventories import Listing, list_all
from shared.services.patience import Patience
from shared.services.plugins import PLUGINS
from shared.services.plugins.base import Held
from shared.services.store import sweep as store
from shared.services.store import turns
from shared.services.store.sweep import HOSTING, Difference, Kind, OpenFinding, Snapshot
from shared.services.work import LEAST_SECONDS_FOR_A_STEP

MOST_AT_ONCE = 3
"""As many orphans of a vendor are ended whatever it holds; more only if they are at most half of what is ours there."""
_TURN = "sweep"
_TURN_MARGIN_SECONDS = 180.0
"""What a step begun just before the deadline may still take; a killed sweep holds up the next one by it."""
_BUSY_SECONDS = 15.0


def sweep(request: Sweep, context: Context) -> SweepResult:
    """List every vendor as far as the deadline allows, keep what differs, and in mode `delete` end confirmed orphans.

    409 `in_progress` while another sweep goes on; 409 `reports_only` when a deletion is asked for that the setting does not
    allow. A vendor that failed, or that the deadline did not reach, is not complete: then nothing is concluded or done there.
    Where most of what is ours would be ended, nothing is, unless `accept_losses` confirms it. A sweep that was killed leaves
    findings and lines of the ledger with which the next one goes on.
    """
    allowed = context.settings.sweep_mode
    if request.mode == "delete" and allowed != "delete":
        raise ConflictError("SWEEP_MODE allows only to report what was found.", code="reports_only")
    holder = uuid4()
    if not turns.take(context.db, _TURN, holder=holder, seconds=request.deadline_seconds + _TURN_MARGIN_SECONDS):
        raise _in_progress()
    try:
        one = _Sweep(
            context,
            holder=holder,
            patience=Patience(request.deadline_seconds),
            mode=request.mode or allowed,
            accept_losses=request.accept_losses,
        )
        return one.run()
    finally:
        turns.end(context.db, _TURN, holder=holder)


class _Sweep:
    """One sweep, while the turn is its own."""

    def __init__(self, context: Context, *, holder: UUID, patience: Patience, mode: str, accept_losses: bool) -> None:
        self._context = context
        self._holder = holder
        self._patience = patience
        self._mode = mode
        self._accept_losses = accept_losses
        self._covered = context.host.place()

    def run(self) -> SweepResult:
        """List, compare, record, and act where that is wanted."""
        context = self._context
        carry_on_abandoned(context, deadline_seconds=self._patience.left() / 2)
        before = store.read_known(context.db, covered=self._covered)
        listings = {vendor: list_all(vendor, context, self._patience) for vendor in (HOSTING, *PLUGINS)}
        after = store.read_known(context.db, covered=self._covered)
        complete = [vendor for vendor, listing in listings.items() if listing.complete]
        environment = context.settings.pool_environment
        youngest = before.at - timedelta(seconds=context.settings.sweep_grace_seconds)
        found = [
            one
            for vendor in complete
            for one in compare(vendor, listings[vendor].held, before, after, environment=environment)
            if one.vendor_created_at is None or one.vendor_created_at <= youngest
        ]
        if not store.record(context.db, found, complete=complete, holder=self._holder, began_at=before.at):
            raise _in_progress()
        store.forget_resolved(context.db)
        notes = {vendor: listing.note for vendor, listing in listings.items() if listing.note}
        acted = 0
        if self._mode == "delete":
            too_many = {} if self._accept_losses else _too_many(found, listings, environment=environment)
            notes |= too_many
            acted = self._end_orphans([vendor for vendor in complete if vendor not in too_many], began_at=before.at)
        left = _open(context)
        log.info("sweep.finished", mode=self._mode, complete=complete, findings=len(left), acted=acted)
        return SweepResult(
            findings=[_told(one) for one in left],
            complete={vendor: listing.complete for vendor, listing in listings.items()},
            notes=notes,
            acted=acted,
            mode=self._mode,
        )

    def _end_orphans(self, vendors: list[str], *, began_at: datetime) -> int:
        """End what is confirmed at these vendors; returns how many ended. One failure stops no other."""
        ended = 0
        for one in _open(self._context):
            if one.kind is not Kind.ORPHAN or not one.confirmed or one.vendor not in vendors:
                continue
            if self._patience.left() < LEAST_SECONDS_FOR_A_STEP:
                break
            try:
                ended += self._end(one, met=one.last_seen_at >= began_at)
            except AppError as error:
                log.warning("sweep.ending_failed", finding_id=one.id, vendor=one.vendor, code=error.code, reason=error.message)
                store.record_problem(self._context.db, one, reason=error.message)
        return ended

    def _end(self, finding: OpenFinding, *, met: bool) -> bool:
        """End one orphan as a destruction would; False when our tables know it by now. Not *met*: an earlier sweep adopted it."""
        context = self._context
        if finding.vendor == HOSTING:
            if not store.begin_removal(context.db, finding, holder=self._holder):
                return False
            context.host.remove(finding.name, replace(self._covered, service_id=finding.resource))
        else:
            if met and not store.adopt(context.db, finding, holder=self._holder):
                return False
            context.tools.release(store.adopter(finding), finding.vendor, resource=finding.resource)
        store.resolve(context.db, finding)
        log.info("sweep.orphan_ended", finding_id=finding.id, vendor=finding.vendor, name=finding.name)
        return True


# --- comparing


def compare(vendor: str, held: Iterable[Held], before: Snapshot, after: Snapshot, *, environment: str) -> Iterator[Difference]:
    """Tell what a vendor, listed to its end, holds that neither snapshot knows, and what both say that it lacks.

    A name of another environment, or none of ours, is none of our business (P26).
    """
    inventory = {one.resource_id: one for one in held}
    yield from _orphans(vendor, inventory, before, after, environment=environment)
    for one in before.known & after.known:
        if one.vendor == vendor and one.expected and one.resource and one.resource not in inventory:
            yield Difference(Kind.MISSING, vendor, one.resource, one.name, instance_id=one.instance_id)


def _orphans(
    vendor: str, inventory: Mapping[str, Held], before: Snapshot, after: Snapshot, *, environment: str
) -> Iterator[Difference]:
    known = [one for one in before.known | after.known if one.vendor == vendor]
    resources = {one.resource for one in known}
    under_way = {parsed.instance_key for one in known if one.under_way and (parsed := names.parse(one.name))}
    for one in inventory.values():
        name = names.parse(one.name)
        if name is None or not _is_ours(one, environment):
            continue
        if one.resource_id not in resources and name.instance_key not in under_way:
            yield Difference(Kind.ORPHAN, vendor, one.resource_id, one.name, vendor_created_at=_moment(one.created_at))


def _is_ours(held: Held, environment: str) -> bool:
    name = names.parse(held.name)
    return name is not None and name.environment_key == names.environment_key(environment)


def _too_many(found: list[Difference], listings: Mapping[str, Listing], *, environment: str) -> dict[str, str]:
    """Name the vendors where most of what is ours would be ended: then rather our tables are wrong, or are not our tables."""
    notes = {}
    for vendor, listing in listings.items():
        ours = sum(_is_ours(one, environment) for one in listing.held)
        orphans = sum(one.vendor == vendor and one.kind is Kind.ORPHAN for one in found)
        if orphans > max(MOST_AT_ONCE, ours / 2):
            notes[vendor] = (
                f"{orphans} of {ours} would be ended, so nothing was: is it the right database? acceptLosses confirms it."
            )
    return notes


def _moment(text: str) -> datetime | None:
    """Read a vendor's time; one that is missing or that names no zone tells nothing."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


# --- telling


def _open(context: Context) -> tuple[OpenFinding, ...]:
    return store.list_open(context.db, grace_seconds=context.settings.sweep_grace_seconds)


def _told(one: OpenFinding) -> Finding:
    return Finding(
        id=one.id,
        kind=one.kind,
        vendor=one.vendor,
        resource_id=one.resource,
        name=one.name,
        instance_id=one.instance_id,
        vendor_created_at=one.vendor_created_at,
        first_seen_at=one.first_seen_at,
        last_seen_at=one.last_seen_at,
        times_seen=one.times_seen,
        confirmed=one.confirmed,
        acted_at=one.acted_at,
        reason=one.reason,
    )


def _in_progress() -> ConflictError:
    return ConflictError("Another sweep is going on.", code="in_progress", retry_after_seconds=_BUSY_SECONDS)
