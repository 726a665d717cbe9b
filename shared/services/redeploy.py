"""Deploy an instance anew: with the desired image or a given one, the start command and every variable it needs (P40)."""

from __future__ import annotations

import uuid

from shared import log
from shared.api.services import Redeploy, Redeployed
from shared.errors import ConflictError, NotFoundError
from shared.services import image, launch
from shared.services.alone import alone
from shared.services.context import Context
from shared.services.models import Instance, State, checked_id
from shared.services.store import instances, observations


def redeploy(instance_id: str, request: Redeploy, context: Context) -> Redeployed:
    """Start a new deployment and return as soon as the host has agreed; its progress shows in `status/batch`.

    A repeat starts another deployment. One worker at a time: a second caller gets ConflictError `in_progress`, and nothing is
    introduced meanwhile. When the host fails, the deployment may have started: listings tell.
    """
    instance = _built(instance_id, context)
    worker = uuid.uuid4()
    if not instances.take_worker(
        context.db, instance_id, worker=worker, state=State.CREATED, lease_seconds=context.settings.worker_lease_seconds
    ):
        _built(instance_id, context)
        raise ConflictError("Somebody is working on that instance; ask again shortly.", code="in_progress", retry_after_seconds=5)
    try:
        wanted = image.pin(request.image, context) if request.image else image.image_to_launch(context)
        launched = launch.launch_for(instance, context, wanted_image=wanted)
        with alone(instance.placement, context):
            context.host.deploy(instance.placement, launched, force=True)
        observations.record_redeployed(context.db, instance_id, image=wanted)
    finally:
        instances.give_back(context.db, instance_id, worker=worker)
    log.info("instance.redeployed", instance_id=instance_id)
    return Redeployed(instance_id=instance_id, image=wanted, status="deploying")


def _built(instance_id: str, context: Context) -> Instance:
    instance = instances.read(context.db, checked_id(instance_id))
    if instance is None:
        raise NotFoundError("There is no instance of that id.")
    if instance.state in (State.DESTROYING, State.DESTROYED):
        raise ConflictError("That instance was destroyed.", code="destroyed")
    if instance.state is State.CREATING:
        raise ConflictError("That instance is still being built.", code="creating")
    return instance
