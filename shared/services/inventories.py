"""What each vendor holds, read to its end: machines from the host, everything else through the function of its tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from shared import log
from shared.errors import AppError
from shared.services.context import Context
from shared.services.patience import Patience
from shared.services.plugins.base import Held, Page
from shared.services.store.sweep import HOSTING

NOT_LISTED: Mapping[str, str] = {
    "wallet": "A wallet is made here, and no vendor holds it.",
    "crypto": "Bankr has no listing of wallets, so those that our tables lost cannot be found.",
}
"""Tools whose vendor cannot be asked for an inventory, and why: nothing is concluded about them."""


@dataclass(frozen=True)
class Listing:
    """What one vendor holds. Not `complete`: nothing is known of it; None: it cannot be asked at all."""

    complete: bool | None
    held: tuple[Held, ...] = ()
    note: str = ""


def list_all(vendor: str, context: Context, patience: Patience) -> Listing:
    """List a vendor to its end. A failure is an answer too: one vendor's never stops the others."""
    if vendor in NOT_LISTED:
        return Listing(None, note=NOT_LISTED[vendor])
    if patience.left() <= 0:
        return Listing(False, note="The deadline came first.")
    try:
        if vendor != HOSTING and not patience.ask(lambda: context.tools.is_configured(vendor), **_words(vendor)):
            return Listing(None, note="It has no credentials here.")
        return _read_all(partial(_page, vendor, context), patience, vendor=vendor)
    except AppError as error:
        log.warning("sweep.listing_failed", vendor=vendor, code=error.code, reason=error.message)
        return Listing(False, note=error.message)


def _read_all(read: Callable[[str | None], Page], patience: Patience, *, vendor: str) -> Listing:
    """Read page after page to the last one. A part counts for nothing, and a cursor that comes back has no end (P35)."""
    held: dict[str, Held] = {}
    met: set[str] = set()
    cursor: str | None = None
    while True:
        page = patience.ask(partial(read, cursor), **_words(vendor))
        held |= {one.resource_id: one for one in page.held}
        cursor = page.next_cursor
        if cursor is None:
            return Listing(True, tuple(held.values()))
        if cursor in met:
            return Listing(False, note="Its listing led back to a page that was read.")
        if patience.left() <= 0:
            return Listing(False, note="The deadline came before its last page.")
        met.add(cursor)


def _page(vendor: str, context: Context, cursor: str | None) -> Page:
    if vendor == HOSTING:
        listed = context.host.list_page(cursor)
        held = (Held(one.service_id, one.name, one.created_at) for one in listed.seen)
        return Page(tuple(held), listed.next_cursor)
    inventory = context.tools.inventory(vendor, cursor=cursor)
    return Page(tuple(Held(one.resource_id, one.name, one.created_at) for one in inventory.held), inventory.next)


def _words(vendor: str) -> dict[str, str]:
    return {"system": "The host" if vendor == HOSTING else f"The function of {vendor}", "during": "the listing of a sweep"}
