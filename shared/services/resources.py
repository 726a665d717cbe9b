"""What the services side holds for one instance, for people: no secret is in it."""

from __future__ import annotations

from shared.api.services import Resource, Resources
from shared.errors import NotFoundError
from shared.services.context import Context
from shared.services.models import LedgerRow
from shared.services.store import instances, ledger


def resources(instance_id: str, context: Context) -> Resources:
    """Read an instance's row and its ledger; 404 when there never was one, or when its tombstone was forgotten."""
    row = instances.read(context.db, instance_id)
    if row is None:
        raise NotFoundError("There is no instance of that id.")
    return Resources(
        instance_id=row.id,
        state=row.state,
        step=row.step,
        problem=row.problem,
        url=row.url(context.settings.instance_url_template),
        image=row.launched_image,
        tools=[_resource(line) for line in ledger.list_all(context.db, instance_id)],
    )


def _resource(line: LedgerRow) -> Resource:
    return Resource(
        tool=line.tool,
        status=line.status,
        resource_id=line.resource_id,
        attempt=line.attempt,
        reason=line.reason,
        updated_at=line.updated_at,
    )
