"""Build an instance in recorded steps: its place at the host, its tools, then the one deployment (P14, P15).

Each step is written down before it is begun and after it ended, so a killed process leaves a row with which the next call goes
on; what it may have done is looked up and adopted. One worker per instance; everybody else is told to come back.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import nullcontext
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from pydantic import SecretStr

from shared import log
from shared.api.services import Created, CreateInstance, Working
from shared.errors import AppError, ConflictError, NotConfiguredError, RequestError
from shared.services import destroy, launch, names
from shared.services.alone import alone
from shared.services.context import Context
from shared.services.hosting.base import Placement
from shared.services.models import Instance, SealedSecrets, State
from shared.services.plugins import PLUGINS
from shared.services.sealing import Ring
from shared.services.store import instances
from shared.services.work import Deadline, pause_after, retry_after

DEPLOY = "deploy"
TOOL = "tool:"


def create_instance(request: CreateInstance, context: Context) -> Created | Working:
    """Build an instance, or go on building it, as far as the deadline allows; repeating never builds a second one.

    Everything is validated before the first row and the first external call (P18). 409 `destroyed` on a tombstone. A step that
    fails is recorded with its reason, and tried again by a later call: the answer is then `Working` with the problem in words.
    """
    deadline = Deadline(request.deadline_seconds)
    instance_id = request.instance_id
    worker = uuid4()
    found = instances.read(context.db, instance_id)
    if found is None and _write_down(request, context, worker=worker):
        return _go_on(instance_id, context, worker=worker, deadline=deadline)
    lease_seconds = context.settings.worker_lease_seconds
    if instances.take_worker(context.db, instance_id, state=State.CREATING, worker=worker, lease_seconds=lease_seconds):
        return _go_on(instance_id, context, worker=worker, deadline=deadline)
    return _answer(instance_id, context)


def steps_of(tools: tuple[str, ...], context: Context) -> tuple[str, ...]:
    """Return the steps of a creation, in their order."""
    return (*context.host.steps, *(f"{TOOL}{tool}" for tool in tools), DEPLOY)


# --- before the first call


def _write_down(request: CreateInstance, context: Context, *, worker: UUID) -> bool:
    """Validate, then insert the row with its name and secrets; False when somebody else inserted it meanwhile."""
    tools = _wanted_tools(request.tools, context)
    written = instances.insert(
        context.db,
        request.instance_id,
        name=names.make(context.settings.pool_environment, request.instance_id),
        title=request.name,
        tools=tools,
        step=steps_of(tools, context)[0],
        placement=context.host.place(),
        secrets=_own_secrets(request.instance_id, context.ring),
        worker=worker,
        lease_seconds=context.settings.worker_lease_seconds,
    )
    if written:
        log.info("instance.intended", instance_id=request.instance_id)
    elif instances.read(context.db, request.instance_id) is None:
        raise ConflictError("Another instance has the name that this id would get; choose another id.", code="name_taken")
    return written


def _wanted_tools(requested: list[str], context: Context) -> tuple[str, ...]:
    """Return what every instance gets and what was asked for, in the registry's order; each one known and configured."""
    unknown = sorted(set(requested) - set(PLUGINS))
    if unknown:
        raise RequestError(f"There is no tool {unknown[0]!r}; there are {', '.join(PLUGINS)}.", code="unknown_tool")
    wanted = tuple(tool for tool, one in PLUGINS.items() if tool in requested or one.kind.always)
    for tool in wanted:
        if not context.tools.is_configured(tool):
            raise NotConfiguredError(f"The tool {tool} has no credentials here, so nothing was built or bought.")
    return wanted


def _own_secrets(instance_id: str, ring: Ring) -> SealedSecrets:
    """Make the secrets that are this instance's own, sealed (P42)."""
    gateway_token, setup_password, services_token = (secrets.token_urlsafe(32) for _ in range(3))

    def sealed(text: str, column: str) -> str:
        return ring.seal(SecretStr(text), instance_id=instance_id, column=column)

    return SealedSecrets(
        gateway_token=sealed(gateway_token, "gateway_token"),
        gateway_token_hash=hashlib.sha256(gateway_token.encode()).digest(),
        setup_password=sealed(setup_password, "setup_password"),
        services_token=sealed(services_token, "services_token"),
        services_token_hash=hashlib.sha256(services_token.encode()).digest(),
    )


# --- the steps


@dataclass(frozen=True)
class _Done:
    """What a step led to: where something was placed, and, after the last one, with which image."""

    placement: Placement | None = None
    image: str = ""


def _go_on(instance_id: str, context: Context, *, worker: UUID, deadline: Deadline) -> Created | Working:
    """Do what remains, as the worker, unless a tombstone came since the work was taken."""
    row = _existing(instance_id, context)
    if row.state is not State.CREATING:
        return _overtaken(instance_id, context, worker=worker, deadline=deadline)
    return _take_steps(row, context, worker=worker, deadline=deadline)


def _take_steps(row: Instance, context: Context, *, worker: UUID, deadline: Deadline) -> Created | Working:
    """Do one step after another; at least one, then as many as the deadline allows."""
    instance_id = row.id
    steps = steps_of(row.tools, context)
    for index, step in enumerate(steps):
        if index < steps.index(row.step or DEPLOY):
            continue
        begun = instances.begin_step(
            context.db, instance_id, worker=worker, step=step, lease_seconds=context.settings.worker_lease_seconds
        )
        if not begun:
            return _overtaken(instance_id, context, worker=worker, deadline=deadline)
        try:
            done = _do(step, row, context)
        except AppError as error:
            return _failed(row, error, context, worker=worker)
        if step == DEPLOY:
            break
        state, ours = instances.finish_step(
            context.db, instance_id, worker=worker, next_step=steps[index + 1], placement=done.placement
        )
        if state is not State.CREATING or not ours:
            return _overtaken(instance_id, context, worker=worker, deadline=deadline)
        row = replace(row, placement=done.placement or row.placement, step=steps[index + 1], step_begun=False, failures=0)
        if not deadline.allows_another_step():
            instances.give_back(context.db, instance_id, worker=worker)
            return _working(row)
    if not instances.finish_creation(context.db, instance_id, worker=worker, image=done.image):
        return _overtaken(instance_id, context, worker=worker, deadline=deadline)
    log.info("instance.created", instance_id=instance_id, image=done.image)
    return _answer(instance_id, context)


def _do(step: str, row: Instance, context: Context) -> _Done:
    if step.startswith(TOOL):
        context.tools.provision(row.id, step.removeprefix(TOOL))
        return _Done()
    if step == DEPLOY:
        wanted = launch.launch_for(row, context)
        with alone(row.placement, context):
            context.host.deploy(row.placement, wanted)
        return _Done(image=wanted.image)
    with alone(row.placement, context) if step in context.host.lone_steps else nullcontext():
        return _Done(context.host.take(step, row.name, row.placement, doubtful=row.step_begun))


def _failed(row: Instance, error: AppError, context: Context, *, worker: UUID) -> Created | Working:
    """Keep the reason, rest for a while, and let the next call go on."""
    instances.record_failure(
        context.db,
        row.id,
        worker=worker,
        state=State.CREATING,
        problem=error.message,
        pause_seconds=pause_after(error, failures=row.failures),
    )
    log.warning("instance.step_failed", instance_id=row.id, step=row.step, code=error.code, reason=error.message)
    return _answer(row.id, context)


def _overtaken(instance_id: str, context: Context, *, worker: UUID, deadline: Deadline) -> Created | Working:
    """Stop building. When the reason is a tombstone, take down what was built: we are the worker who knows of it.

    A destruction that had ended, and that our step opened again, has no worker; whoever asked for it asks no more.
    """
    if _existing(instance_id, context).state is State.DESTROYING:
        lease_seconds = context.settings.worker_lease_seconds
        instances.take_worker(context.db, instance_id, state=State.DESTROYING, worker=worker, lease_seconds=lease_seconds)
        destroy.go_on(instance_id, context, worker=worker, deadline=deadline)
    return _answer(instance_id, context)


# --- answers


def _existing(instance_id: str, context: Context) -> Instance:
    row = instances.read(context.db, instance_id)
    if row is None:
        raise AppError("The row of this instance vanished while it was being built.")
    return row


def _answer(instance_id: str, context: Context) -> Created | Working:
    row = _existing(instance_id, context)
    if row.state in (State.DESTROYING, State.DESTROYED):
        raise ConflictError("The instance is being destroyed or was destroyed.", code="destroyed")
    return _created(row, context) if row.state is State.CREATED else _working(row)


def _created(row: Instance, context: Context) -> Created:
    url = row.url(context.settings.instance_url_template) or ""
    return Created(instance_id=row.id, url=url, status=State.CREATED)


def _working(row: Instance) -> Working:
    return Working(
        instance_id=row.id,
        status=State.CREATING,
        step=row.step or DEPLOY,
        retry_after_seconds=retry_after(row),
        problem=row.problem,
    )
