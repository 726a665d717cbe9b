"""Tell what the provider allows us, and what our listings take of it. Makes no provider call."""

from __future__ import annotations

from shared.api.services import Limits
from shared.services import listing
from shared.services.context import Context
from shared.services.store import observations


def limits(context: Context) -> Limits:
    """Return the allowance as the provider's last answer told it, and the interval of our listings."""
    known = observations.read_limits(context.db)
    return Limits(
        hourly_limit=known.hourly_limit,
        remaining=known.remaining,
        listing_interval_seconds=listing.interval_seconds(
            known.usual_pages, hourly_limit=known.hourly_limit, share=context.settings.listing_share
        ),
        listing_at=known.listing_at,
    )
