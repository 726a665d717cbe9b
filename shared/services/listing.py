"""One listing of everything that the host runs for us, kept in the database for all callers (P34).

Only one process lists at a time, and not more often than the interval allows; everybody else uses the last listing. A listing
that failed or was cut short by the deadline stores what it saw and concludes nothing (P33, P35).
"""

from __future__ import annotations

import uuid

from shared import log
from shared.errors import RemoteError
from shared.services.context import Context
from shared.services.hosting.base import ListingPage
from shared.services.patience import Patience
from shared.services.store import observations
from shared.services.store.observations import Turn

LEAST_INTERVAL_SECONDS = 60.0
ASSUMED_HOURLY_LIMIT = 1000
"""Until an answer tells the limit, we assume the smallest paid plan's (Railway, Hobby)."""
_HOST = "The host"


def interval_seconds(pages: int, *, hourly_limit: int | None, share: float) -> float:
    """Return how far apart the beginnings of two listings are, so that listing spends at most *share* of the hourly limit."""
    allowed_calls = max((hourly_limit or ASSUMED_HOURLY_LIMIT) * share, 1.0)
    return max(LEAST_INTERVAL_SECONDS, pages * 3600.0 / allowed_calls)


def refresh_if_due(context: Context, patience: Patience) -> bool:
    """List everything when that is due, and return False when the host failed to answer. Calls = pages.

    When another process lists, or did so recently, this does nothing. The interval counts from the beginning of the last
    attempt, whatever became of it.
    """
    turn = observations.begin_listing(
        context.db, holder=uuid.uuid4(), seconds=max(LEAST_INTERVAL_SECONDS, patience.left() + LEAST_INTERVAL_SECONDS)
    )
    if turn is None:
        return True
    lister = _Lister(turn, context)
    try:
        complete = lister.read_all(patience)
    except RemoteError as error:
        log.warning("listing.failed", listing_id=turn.listing_id, pages=lister.pages, reason=error.message)
        complete = False
    finally:
        lister.finish()
    if complete:
        log.info("listing.finished", listing_id=turn.listing_id, pages=lister.pages)
    return complete


class _Lister:
    """The progress of one listing."""

    def __init__(self, turn: Turn, context: Context) -> None:
        self._turn = turn
        self._context = context
        self._complete = False
        self._hourly_limit = turn.hourly_limit
        self.pages = 0

    def read_all(self, patience: Patience) -> bool:
        """Read and store page after page; False when the time ran out first, or the cursor came back (then it is partial)."""
        cursor: str | None = None
        met: set[str] = set()
        while True:
            page = self._read_page(cursor, patience)
            cursor = page.next_cursor
            if cursor is None:
                self._complete = True
                return True
            if cursor in met or patience.left() <= 0:
                log.warning("listing.cut", listing_id=self._turn.listing_id, pages=self.pages, repeated=cursor in met)
                return False
            met.add(cursor)

    def _read_page(self, cursor: str | None, patience: Patience) -> ListingPage:
        page = patience.ask(lambda: self._context.host.list_page(cursor), system=_HOST, during="listing")
        self.pages += 1
        self._hourly_limit = page.budget.hourly_limit or self._hourly_limit
        observations.record_seen(
            self._context.db,
            [(one, self._turn.began_at) for one in page.seen],
            listing_id=self._turn.listing_id,
            budget=page.budget,
        )
        return page

    def finish(self) -> None:
        """Record how it ended, and when the next one is due."""
        pages = self.pages if self._complete else max(self.pages, self._turn.usual_pages)
        observations.finish_listing(
            self._context.db,
            self._turn,
            complete=self._complete,
            interval_seconds=interval_seconds(pages, hourly_limit=self._hourly_limit, share=self._context.settings.listing_share),
            covered=self._context.host.place(),
        )
