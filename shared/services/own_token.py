"""Whether a caller is a certain instance, by its own services token."""

from __future__ import annotations

import hashlib
import hmac

from shared.services.context import ProvisionContext
from shared.services.store import instances


def is_own_token(instance_id: str, token: str, context: ProvisionContext) -> bool:
    """Whether *token* is the services token of this living instance; the comparison takes constant time (P42, P44)."""
    stored = instances.read_services_token_hash(context.db, instance_id)
    return stored is not None and hmac.compare_digest(stored, hashlib.sha256(token.encode()).digest())
