"""Tell whether a gateway token is an instance's own. The pool side keeps none and asks here."""

from __future__ import annotations

import hashlib
import hmac

from shared.api.services import Verified, Verify
from shared.services.context import Context
from shared.services.models import checked_id
from shared.services.store import hand_overs


def verify(instance_id: str, request: Verify, context: Context) -> Verified:
    """Compare in constant time (P44). A token that more than one living instance has is nobody's; no instance, no token."""
    checked_id(instance_id)
    known = hand_overs.read_token_hash(context.db, instance_id)
    if known is None:
        return Verified(valid=False)
    shown = hashlib.sha256(request.gateway_token.encode()).digest()
    return Verified(valid=hmac.compare_digest(shown, known.sha256) and known.owners == 1)
