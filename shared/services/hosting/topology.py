"""How instances are laid out at Railway. `SharedProject`: each is a service in one project and one environment.

What holds for every layout is in `_Railway`: the order in which a machine is built (P14, P15), the one commit that deploys it,
and how things are found again after an answer was lost. A layout says which projects there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from shared import log
from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError, SettingsError
from shared.services import names
from shared.services.hosting.base import Host, Launch, ListingPage, Placement, Seen
from shared.services.hosting.documents import ServiceInstance
from shared.services.hosting.railway import RailwayApi, RailwaySettings, next_cursor
from shared.services.hosting.refusals import Problem, problem, says_gone
from shared.settings import reveal

Result = TypeVar("Result")
PORT = 8080
FORCE_VARIABLE = "CONVOS_DEPLOYED_AT"
"""Its value makes a commit differ from the last one: without a difference Railway deploys nothing."""
LONGEST_NAME = 32
VOLUME_APPEARS_WITHIN = timedelta(minutes=2)
"""A new volume is listed without its service at first; 28 seconds were seen."""
LOOK_AGAIN_SECONDS = 10.0
_REGISTRY = "ghcr.io/"


def make_host(settings: RailwaySettings, api: RailwayApi, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Host:
    """Return the host of the topology that the settings name."""
    if settings.railway_topology == "shared":
        return SharedProject(settings, api, now=now)
    raise SettingsError(f"RAILWAY_TOPOLOGY {settings.railway_topology} is not built yet; use shared.")


class _Railway:
    """Everything that depends on a service in an environment, whatever project it is in."""

    def __init__(self, settings: RailwaySettings, api: RailwayApi, *, now: Callable[[], datetime]) -> None:
        self._settings = settings
        self._api = api
        self._now = now

    def deploy(self, placement: Placement, launch: Launch, *, force: bool = False) -> None:
        """Commit image, start command, limits and variables at once: Railway deploys once if anything of it differs."""
        patch = {"services": {_known(placement.service_id): self._patch(launch, force=force)}}
        environment_id = _known(placement.environment_id)
        self._patiently(placement, lambda: self._api.commit(environment_id, patch, message="deploy instance"))

    def read(self, placement: Placement) -> Seen | None:
        """Ask for one instance; None when Railway says that there is none, which is also said while a new one is not yet seen."""
        if placement.service_id is None or placement.environment_id is None:
            return None
        try:
            found = self._api.instance(placement.service_id, placement.environment_id)
        except RemoteError as error:
            if says_gone(error, "ServiceInstance", "Service"):
                return None
            raise
        return None if found.deleted_at is not None else seen(found)

    # --- creating

    def _service(self, name: str, placement: Placement, *, doubtful: bool) -> str:
        project_id, environment_id = _known(placement.project_id), _known(placement.environment_id)
        adopted = self._service_named(name, project_id) if doubtful else None
        if adopted is not None:
            return adopted
        try:
            return self._api.create_service(project_id, environment_id, name=name)
        except RemoteError as error:
            if problem(error) is not Problem.ALREADY_EXISTS:
                raise
            adopted = self._service_named(name, project_id)
            if adopted is None:
                raise _not_visible_yet("the service creation") from error
            return adopted

    def _volume(self, placement: Placement, *, doubtful: bool) -> str:
        service_id = _known(placement.service_id)
        existing = self._volumes_of(service_id, placement) if doubtful else ()
        if existing:
            return existing[0]
        return self._api.create_volume(
            _known(placement.project_id),
            _known(placement.environment_id),
            service_id=service_id,
            mount_path=self._settings.instance_volume_mount,
        )

    def _domain(self, placement: Placement, *, doubtful: bool) -> str:
        project_id, environment_id = _known(placement.project_id), _known(placement.environment_id)
        service_id = _known(placement.service_id)
        if doubtful:
            existing = self._api.domains(project_id, environment_id, service_id=service_id)
            if existing:
                return existing[0].domain
        return self._api.create_domain(environment_id, service_id=service_id, port=PORT)

    def _patch(self, launch: Launch, *, force: bool) -> dict[str, Any]:
        deploy: dict[str, Any] = {
            "numReplicas": 1,
            "sleepApplication": False,
            "limitOverride": {"containers": {"cpu": launch.cpu, "memoryBytes": round(launch.memory_gb * 1024**3)}},
        }
        if launch.start_command:
            deploy["startCommand"] = launch.start_command
        username, token = self._settings.ghcr_username, self._settings.ghcr_token
        if username and token and launch.image.startswith(_REGISTRY):
            deploy["registryCredentials"] = {"username": username, "password": reveal(token)}
        return {"source": {"image": launch.image}, "deploy": deploy, "variables": self._variables(launch, force=force)}

    def _variables(self, launch: Launch, *, force: bool) -> dict[str, dict[str, str]]:
        values = {name: reveal(value) for name, value in launch.variables.items()} | {"PORT": str(PORT)}
        for name, value in values.items():
            if "${{" in value:
                # Railway would put another variable, perhaps another service's, in its place.
                raise RemoteRefusedError(
                    "Railway",
                    "the deployment commit",
                    f"would expand a reference in the variable {name}",
                    never_sent=True,
                    code="invalid_variable",
                    details={"variable": name},
                )
        if force:
            values[FORCE_VARIABLE] = self._now().isoformat()
        return {name: {"value": value} for name, value in values.items()}

    # --- looking up after doubt

    def _service_named(self, name: str, project_id: str) -> str | None:
        return next((service.id for service in self._api.services(project_id) if service.name == name), None)

    def _volumes_of(self, service_id: str, placement: Placement, *, doubtful: bool = True) -> tuple[str, ...]:
        """Return the living volumes of a service. When *doubtful*, raises while a young volume does not tell whose it is.

        Then one that our lost call created may be among them, and to go on would leave it behind, paid and unknown.
        """
        volumes = self._api.volumes(_known(placement.project_id)) if doubtful else ()
        instances = self._api.volume_instances(_known(placement.environment_id))
        attached = {instance.volume_id for instance in instances}
        oldest = self._now() - VOLUME_APPEARS_WITHIN
        if any(volume.id not in attached and volume.created_at > oldest for volume in volumes):
            raise _not_visible_yet("the volume listing")
        return tuple(instance.volume_id for instance in instances if instance.service_id == service_id and not instance.is_gone)

    def _patiently(self, placement: Placement, act: Callable[[], Result]) -> Result:
        """Do what needs the service's instance: while a new one is not there yet, that is a reason to come back."""
        try:
            return act()
        except RemoteError as error:
            if says_gone(error, "ServiceInstance", "Service") and self._has_service(placement):
                raise _not_visible_yet("the creation") from error
            raise

    def _has_service(self, placement: Placement) -> bool:
        return any(row.id == placement.service_id for row in self._api.services(_known(placement.project_id)))

    # --- removing

    def _remove_volumes(self, placement: Placement, *, service_id: str | None) -> None:
        if placement.volume_id is not None:
            self._remove_volume(placement.volume_id, placement)
        if service_id is None:
            return
        # Without its id, a volume whose creation was never answered may still be about to appear.
        doubtful = placement.volume_id is None
        for volume_id in self._volumes_of(service_id, placement, doubtful=doubtful):
            self._remove_volume(volume_id, placement)

    def _remove_volume(self, volume_id: str, placement: Placement) -> None:
        self._confirm(
            lambda: self._api.delete_volume(volume_id),
            kinds=("Volume", "VolumeInstance"),
            is_there=lambda: self._has_volume(volume_id, placement),
            during="the volume deletion",
        )

    def _has_volume(self, volume_id: str, placement: Placement) -> bool:
        instances = self._api.volume_instances(_known(placement.environment_id))
        shown = [instance for instance in instances if instance.volume_id == volume_id]
        if shown:
            return not all(instance.is_gone for instance in shown)
        return any(volume.id == volume_id for volume in self._api.volumes(_known(placement.project_id)))

    def _remove_service(self, service_id: str, placement: Placement) -> None:
        self._confirm(
            lambda: self._api.delete_service(service_id),
            kinds=("Service",),
            is_there=lambda: self._has_service(replace(placement, service_id=service_id)),
            during="the service deletion",
        )

    @staticmethod
    def _confirm(delete: Callable[[], bool], *, kinds: tuple[str, ...], is_there: Callable[[], bool], during: str) -> None:
        """Delete, and return only when Railway says that it is done, that nothing is there, or no longer lists it (P25).

        Any other answer proves nothing, not even `Not Authorized`, which Railway also says of what is gone: then we look.
        """
        refusal: RemoteError | None = None
        try:
            if delete():
                return
        except RemoteError as error:
            if says_gone(error, *kinds):
                return
            if error.never_sent or problem(error) is Problem.THROTTLED:
                raise
            refusal = error
        if is_there():
            log.warning("railway.deletion_unconfirmed", during=during)
            raise refusal or RemoteUnavailableError(
                "Railway", during, "did not confirm it", retry_after_seconds=LOOK_AGAIN_SECONDS
            )


class SharedProject(_Railway):
    """All instances in one project: an instance is a service, with its volume and its domain. Implements `Host`."""

    topology = "shared"
    steps = ("service", "volume", "domain")
    lone_steps = frozenset({"domain"})

    def __init__(
        self, settings: RailwaySettings, api: RailwayApi, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(settings, api, now=now)
        if settings.railway_project_id is None:
            raise SettingsError("RAILWAY_PROJECT_ID (the project of the shared topology) is not set.")
        self._project_id = settings.railway_project_id
        self._environment_id = settings.railway_environment_id

    def place(self) -> Placement:
        """Return the project and, where the settings give its id or it was asked for before, the environment."""
        return Placement(self.topology, project_id=self._project_id, environment_id=self._environment_id)

    def take(self, step: str, name: str, placement: Placement, *, doubtful: bool) -> Placement:
        """Do one step. Only the first one finds things by *name*; the others belong to the service it found."""
        if names.parse(name) is None or len(name) > LONGEST_NAME:
            raise ValueError(f"{name} is no name of an instance")
        return self._take(step, name, self._located(placement), doubtful=doubtful)

    def _take(self, step: str, name: str, placement: Placement, *, doubtful: bool) -> Placement:
        if step == "service":
            return replace(placement, service_id=self._service(name, placement, doubtful=doubtful))
        if step == "volume":
            volume_id = self._patiently(placement, lambda: self._volume(placement, doubtful=doubtful))
            return replace(placement, volume_id=volume_id)
        if step == "domain":
            domain = self._patiently(placement, lambda: self._domain(placement, doubtful=doubtful))
            return replace(placement, domain=domain)
        raise ValueError(f"there is no step {step}")

    def remove(self, name: str, placement: Placement) -> None:
        """Delete the volumes first: a deleted service's volume no longer tells whose it was."""
        placement = self._located(placement)
        service_id = placement.service_id or self._service_named(name, self._project_id)
        self._remove_volumes(placement, service_id=service_id)
        if service_id is not None:
            self._remove_service(service_id, placement)

    def list_page(self, cursor: str | None) -> ListingPage:
        """Return one page of the environment's services, those of other environments of ours in it too."""
        page = self._api.instances_page(self._environment(), cursor)
        ours = tuple(seen(row) for row in page.nodes if row.deleted_at is None and names.parse(row.service_name) is not None)
        return ListingPage(seen=ours, next_cursor=next_cursor(page, cursor), budget=self._api.budget)

    def _located(self, placement: Placement) -> Placement:
        return replace(
            placement,
            project_id=placement.project_id or self._project_id,
            environment_id=placement.environment_id or self._environment(),
        )

    def _environment(self) -> str:
        """Return the environment's id; where the settings give its name, Railway is asked once."""
        if self._environment_id is None:
            wanted = self._settings.railway_environment_name
            found = [row.id for row in self._api.environments(self._project_id) if row.name == wanted]
            if len(found) != 1:
                raise SettingsError("RAILWAY_ENVIRONMENT_NAME names no environment of that project.")
            self._environment_id = found[0]
        return self._environment_id


def seen(row: ServiceInstance) -> Seen:
    """Translate a row of Railway's."""
    latest = row.latest_deployment
    domains = row.domains.service_domains
    return Seen(
        service_id=row.service_id,
        name=row.service_name,
        deployment_id=latest.id if latest is not None else None,
        deploy_status=latest.status if latest is not None else None,
        image=row.source.image if row.source is not None else None,
        domain=domains[0].domain if domains else None,
        created_at=row.created_at,
    )


def _known(value: str | None) -> str:
    """Return what an earlier step must have left in the placement."""
    if value is None:
        raise ValueError("an earlier step of this creation was not taken")
    return value


def _not_visible_yet(during: str) -> RemoteUnavailableError:
    return RemoteUnavailableError("Railway", during, "does not show yet what it created", retry_after_seconds=LOOK_AGAIN_SECONDS)
