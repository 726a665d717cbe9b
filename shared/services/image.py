"""The desired image: which one, and the digest that its tag stands for now (P23).

The digest is looked up now and then, by one process at a time, and never waited for longer than a few seconds; a failed lookup
keeps the last one. A reference that names a digest itself needs no lookup.
"""

from __future__ import annotations

from datetime import timedelta

from shared import log
from shared.api.services import Image, PutImage
from shared.errors import RemoteError
from shared.services.context import Context
from shared.services.hosting import images
from shared.services.patience import Patience
from shared.services.store import observations
from shared.services.store.observations import ImageFacts

LOOKUP_INTERVAL_SECONDS = 60.0
LOOKUP_SECONDS = 3.0
_REGISTRY = "The image registry"


def get_image(context: Context) -> Image:
    """Return the desired image and what is known of it."""
    return _answer(_read(context))


def put_image(request: PutImage, context: Context) -> Image:
    """Desire another image from now on. Its digest is looked up once, here; when that fails, later lookups find it."""
    facts = observations.replace_image(context.db, request.image)
    digest = _look_up(facts.image, context, Patience(LOOKUP_SECONDS))
    if digest is None:
        return _answer(facts)
    return _answer(observations.record_digest(context.db, facts.image, digest=digest, at_once=True) or _read(context))


def image_to_launch(context: Context) -> str:
    """Return the reference that a new deployment uses: pinned, or the tag itself when the registry does not tell in time.

    While no digest is known, everybody looks for himself: one who relied on another's lookup under way would launch the tag.
    """
    facts = _read(context)
    if facts.digest is not None:
        return pinned(facts)
    digest = _look_up(facts.image, context, Patience(LOOKUP_SECONDS))
    if digest is not None:
        observations.record_digest(context.db, facts.image, digest=digest, at_once=False)
    return pinned_reference(facts.image, digest)


def pin(reference: str, context: Context) -> str:
    """Return *reference* with the digest that it stands for now, or as it is when the registry does not tell in time."""
    facts = _read(context)
    if reference == facts.image:
        return image_to_launch(context)
    digest = _look_up(reference, context, Patience(LOOKUP_SECONDS))
    return pinned_reference(reference, digest)


def refresh_if_due(facts: ImageFacts, context: Context, patience: Patience) -> ImageFacts:
    """Look the tag up when that is due and return what is known then. Takes no longer than a few seconds (P23).

    A new digest counts when two lookups in a row found it, the very first one at once.
    """
    due = facts.checked_at is None or facts.now - facts.checked_at >= timedelta(seconds=LOOKUP_INTERVAL_SECONDS)
    if not due or _names_a_digest(facts.image) or patience.left() <= 0:
        return facts
    image = observations.take_image_turn(context.db, first_image=facts.image, seconds=LOOKUP_INTERVAL_SECONDS)
    if image is None:
        return facts
    digest = _look_up(image, context, Patience(min(LOOKUP_SECONDS, patience.left())))
    if digest is None:
        return facts
    return observations.record_digest(context.db, image, digest=digest, at_once=False) or facts


def pinned(facts: ImageFacts) -> str:
    """Return the reference that stands for the desired image."""
    return pinned_reference(facts.image, facts.digest)


def pinned_reference(reference: str, digest: str | None) -> str:
    """Return *reference* with its tag replaced by *digest*; without one, or when it names one itself, as it is."""
    if digest is None or _names_a_digest(reference):
        return reference
    return images.pinned(reference, digest)


def _names_a_digest(reference: str) -> bool:
    return "@" in reference


def _read(context: Context) -> ImageFacts:
    return observations.read_image(context.db, first_image=context.settings.railway_runtime_image)


def _look_up(reference: str, context: Context, patience: Patience) -> str | None:
    if _names_a_digest(reference):
        return None
    try:
        return patience.ask(lambda: context.images.resolve(reference), system=_REGISTRY, during="a digest lookup")
    except RemoteError as error:
        log.warning("image.not_resolved", reason=error.message)
        return None


def _answer(facts: ImageFacts) -> Image:
    own = facts.image.partition("@")[2] or None
    return Image(image=facts.image, digest=own or facts.digest, pinned=pinned(facts), checked_at=facts.checked_at)
