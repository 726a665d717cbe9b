"""What Railway's mutations do, in memory. The caller holds the lock; GraphQL is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import uuid4

from infra.local.simulators.railway_config import check_patch
from infra.local.simulators.railway_deployments import Deployments
from infra.local.simulators.railway_state import (
    Behaviour,
    Clock,
    Deployment,
    Domain,
    Environment,
    Machines,
    Project,
    Row,
    Service,
    ServiceInstance,
    VolumeInstance,
    merged,
    refused,
)

SomeRow = TypeVar("SomeRow", bound=Row)
PURGE_SECONDS = 48 * 3600
_THROTTLED = {
    "projectCreate": "You're creating projects too quickly. This workspace allows 1 project per {:g} seconds. Try again shortly.",
    "volumeCreate": "Whoa there pal! You're creating volumes too quickly. Try again in a sec",
}


class World:
    """All projects of the simulated account."""

    def __init__(self, *, seconds: Callable[[], float], machines: Machines, domain_suffix: str) -> None:
        self.behaviour = Behaviour()
        self.clock = Clock(seconds)
        self.deployments = Deployments(clock=self.clock, behaviour=self.behaviour, machines=machines)
        self.projects: dict[str, Project] = {}
        self.environments: dict[str, Environment] = {}
        self.services: dict[str, Service] = {}
        self.instances: dict[tuple[str, str], ServiceInstance] = {}
        self.volumes: dict[str, VolumeInstance] = {}
        self.domains: dict[str, Domain] = {}
        self._domain_suffix = domain_suffix
        self._created_at: dict[str, float] = {}

    # --- looking up

    def find(self, rows: dict[str, SomeRow], row_id: str, kind: str) -> SomeRow:
        """Return a living row, or refuse with `<kind> not found`."""
        row = rows.get(row_id)
        if row is None or row.deleted_at is not None:
            raise refused(f"{kind} not found")
        return row

    def instance(self, service_id: str, environment_id: str) -> ServiceInstance:
        """Return the instance of a service that is visible by now."""
        instance = self.instances.get((service_id, environment_id))
        if instance is None or instance.deleted_at is not None or not self._is_visible(instance):
            raise refused("ServiceInstance not found")
        return instance

    def visible_instances(self, environment_id: str) -> list[ServiceInstance]:
        """Return the instances of an environment, as its listing shows them."""
        return [
            instance
            for instance in self.instances.values()
            if instance.environment_id == environment_id and instance.deleted_at is None and self._is_visible(instance)
        ]

    def visible_volumes(self, environment_id: str) -> list[VolumeInstance]:
        """Return the volume instances of an environment, those pending deletion too."""
        now, delay = self.clock.seconds(), self.behaviour.volume_delay_seconds
        return [
            volume
            for volume in self.kept_volumes()
            if volume.environment_id == environment_id and now - volume.created_at >= delay
        ]

    def kept_volumes(self) -> Iterable[VolumeInstance]:
        """Return every volume that was not purged yet."""
        now = self.clock.seconds()
        return [row for row in self.volumes.values() if row.deleted_at is None or now - row.deleted_at < PURGE_SECONDS]

    def _is_visible(self, instance: ServiceInstance) -> bool:
        return self.clock.seconds() - instance.created_at >= self.behaviour.instance_delay_seconds

    # --- projects

    def create_project(self, wanted: dict[str, Any], *, project_id: str = "", environment_id: str = "") -> Project:
        """Create a project with its first environment."""
        self._throttle("projectCreate")
        self._limit("projects", sum(row.deleted_at is None for row in self.projects.values()))
        now = self.clock.seconds()
        project = Project(
            id=project_id or str(uuid4()),
            name=wanted.get("name") or f"project-{uuid4().hex[:6]}",
            workspace_id=wanted.get("workspaceId"),
            description=wanted.get("description"),
            is_public=bool(wanted.get("isPublic")),
            pr_deploys=bool(wanted.get("prDeploys")),
            created_at=now,
        )
        if len(project.name) > 32:
            raise refused("Project name must be at most 32 characters", "BAD_USER_INPUT")
        name = wanted.get("defaultEnvironmentName") or "production"
        environment = Environment(id=environment_id or str(uuid4()), project_id=project.id, name=name, created_at=now)
        self.projects[project.id] = project
        self.environments[environment.id] = environment
        return project

    def delete_project(self, project_id: str) -> None:
        """Delete a project with everything in it; it stays visible to who asks for deleted ones."""
        project = self.find_to_delete(self.projects, project_id, "Project")
        for service in [row for row in self.services.values() if row.project_id == project_id and row.deleted_at is None]:
            self.delete_service(service.id)
        for volume in [row for row in self.volumes.values() if row.project_id == project_id]:
            self._end_volume(volume)
        for environment in self.environments.values():
            if environment.project_id == project_id:
                environment.deleted_at = self.clock.seconds()
        project.deleted_at = self.clock.seconds()

    def find_to_delete(self, rows: dict[str, SomeRow], row_id: str, kind: str) -> SomeRow:
        """Return a living row, or refuse as Railway does for what is gone, which is not always `not found`."""
        row = rows.get(row_id)
        if row is None or row.deleted_at is not None:
            raise refused(self.behaviour.gone_message or f"{kind} not found")
        return row

    # --- services

    def create_service(self, wanted: dict[str, Any]) -> Service:
        """Create a service; one with a source starts a deployment at once."""
        project = self.find(self.projects, wanted["projectId"], "Project")
        named = [row.name for row in self.services.values() if row.project_id == project.id and row.deleted_at is None]
        name = wanted.get("name") or f"service-{uuid4().hex[:6]}"
        if name in named:
            raise refused(f'A service named "{name}" already exists in this project')
        self._limit("services", len(named))
        now = self.clock.seconds()
        service = Service(project_id=project.id, name=name, created_at=now)
        self.services[service.id] = service
        for environment in self._environments_for(project.id, wanted.get("environmentId")):
            variables = {key: {"value": value} for key, value in (wanted.get("variables") or {}).items()}
            instance = ServiceInstance(
                service=service, environment_id=environment.id, created_at=now, config={"variables": variables}
            )
            self.instances[service.id, environment.id] = instance
            self._configure(instance, _settings(wanted))
            if instance.image:
                self.deploy(instance)
        return service

    def _environments_for(self, project_id: str, environment_id: str | None) -> list[Environment]:
        if environment_id:
            return [self.find(self.environments, environment_id, "Environment")]
        return [row for row in self.environments.values() if row.project_id == project_id and row.deleted_at is None]

    def delete_service(self, service_id: str) -> None:
        """Delete a service with its deployments and domains; its volumes stay, and no longer tell whose they were."""
        service = self.find_to_delete(self.services, service_id, "Service")
        service.deleted_at = self.clock.seconds()
        for instance in self.instances.values():
            if instance.service.id == service_id:
                self.deployments.end(instance)
                instance.deleted_at = service.deleted_at
                for domain in instance.domains:
                    domain.deleted_at = service.deleted_at
        for volume in self.volumes.values():
            if volume.service_id == service_id:
                volume.service_id = None

    def update_instance(self, instance: ServiceInstance, wanted: dict[str, Any]) -> None:
        """Change settings; an image starts a deployment on its own, and a missing `numReplicas` becomes 1."""
        self._configure(instance, merged({"deploy": {"numReplicas": 1}}, _settings(wanted)))
        if (wanted.get("source") or {}).get("image"):
            self.deploy(instance)

    def limit_instance(self, instance: ServiceInstance, *, cpu: float | None, memory_gb: float | None) -> None:
        """Set the limits that count from the next deployment on."""
        containers = {"cpu": cpu, "memoryBytes": None if memory_gb is None else int(memory_gb * 1024**3)}
        self._configure(instance, {"deploy": {"limitOverride": {"containers": containers}}})

    def commit(self, environment_id: str, patch: Any) -> None:
        """Apply a patch; each service that it changes and that has an image is deployed once, the others are left alone."""
        self.find(self.environments, environment_id, "Environment")
        services = check_patch(patch or {})
        instances = {service_id: self.instance(service_id, environment_id) for service_id in services}
        for service_id, change in services.items():
            instance = instances[service_id]
            before = instance.config
            self._configure(instance, change)
            if instance.config != before and instance.image:
                self.deploy(instance)

    def upsert_variables(self, wanted: dict[str, Any]) -> None:
        """Write variables of a service or, without one, of the whole environment."""
        environment = self.find(self.environments, wanted["environmentId"], "Environment")
        if not wanted.get("serviceId"):
            kept = {} if wanted["replace"] else environment.shared_variables
            environment.shared_variables = {**kept, **wanted["variables"]}
            return
        instance = self.instance(wanted["serviceId"], environment.id)
        before = instance.config
        if wanted["replace"]:
            instance.config = {**before, "variables": {}}
        self._configure(instance, {"variables": {key: {"value": value} for key, value in wanted["variables"].items()}})
        if instance.config != before and instance.image and not wanted["skipDeploys"]:
            self.deploy(instance)

    def deploy(self, instance: ServiceInstance, *, replay: Deployment | None = None) -> Deployment:
        """Start a deployment with the variables of this moment."""
        return self.deployments.start(instance, self._surroundings(instance), replay=replay)

    def _configure(self, instance: ServiceInstance, change: dict[str, Any]) -> None:
        instance.config = merged(instance.config, change)

    def _surroundings(self, instance: ServiceInstance) -> dict[str, str]:
        environment = self.environments[instance.environment_id]
        found = {
            **environment.shared_variables,
            "RAILWAY_PROJECT_ID": environment.project_id,
            "RAILWAY_ENVIRONMENT_ID": environment.id,
            "RAILWAY_ENVIRONMENT_NAME": environment.name,
            "RAILWAY_SERVICE_ID": instance.service.id,
            "RAILWAY_SERVICE_NAME": instance.service.name,
            "PORT": "8080",
        }
        if instance.domains:
            found["RAILWAY_PUBLIC_DOMAIN"] = instance.domains[0].domain
        for volume in self.volumes.values():
            if volume.service_id == instance.service.id and volume.environment_id == environment.id and not volume.deleted_at:
                found |= {"RAILWAY_VOLUME_NAME": volume.name, "RAILWAY_VOLUME_MOUNT_PATH": volume.mount_path}
        return found

    # --- domains and volumes

    def create_domain(self, wanted: dict[str, Any]) -> Domain:
        """Add a domain: a second call adds a second one, which is the worst that the real one may do."""
        service = self.find(self.services, wanted["serviceId"], "Service")
        instance = self.instance(service.id, wanted["environmentId"])
        label = "".join(letter if letter.isalnum() else "-" for letter in service.name.lower())
        domain = Domain(
            domain=f"{label}-{uuid4().hex[:4]}.{self._domain_suffix}",
            service_id=service.id,
            environment_id=instance.environment_id,
            project_id=service.project_id,
            target_port=wanted.get("targetPort"),
            created_at=self.clock.seconds(),
        )
        instance.domains.append(domain)
        self.domains[domain.id] = domain
        if len(instance.domains) == 1 and instance.deployments and instance.deployments[-1].status == "SUCCESS":
            self.deployments.serve(instance.deployments[-1])
        return domain

    def delete_domain(self, domain_id: str) -> None:
        """Remove a domain."""
        domain = self.find_to_delete(self.domains, domain_id, "ServiceDomain")
        domain.deleted_at = self.clock.seconds()
        self.instances[domain.service_id, domain.environment_id].domains.remove(domain)

    def create_volume(self, wanted: dict[str, Any]) -> VolumeInstance:
        """Add a volume: a second call adds a second one, which is the worst that the real one may do."""
        self._throttle("volumeCreate")
        project = self.find(self.projects, wanted["projectId"], "Project")
        self._limit("volumes", sum(row.project_id == project.id and not row.deleted_at for row in self.volumes.values()))
        if wanted.get("serviceId"):
            self.find(self.services, wanted["serviceId"], "Service")
        environment = self._environments_for(project.id, wanted.get("environmentId"))[0]
        volume = VolumeInstance(
            name=f"volume-{uuid4().hex[:6]}",
            project_id=project.id,
            environment_id=environment.id,
            service_id=wanted.get("serviceId"),
            mount_path=wanted["mountPath"],
            region=wanted.get("region"),
            created_at=self.clock.seconds(),
        )
        self.volumes[volume.volume_id] = volume
        return volume

    def delete_volume(self, volume_id: str) -> None:
        """Mark a volume for deletion; it is listed as pending until it is purged."""
        self._end_volume(self.find_to_delete(self.volumes, volume_id, "Volume"))

    def _end_volume(self, volume: VolumeInstance) -> None:
        volume.is_pending_deletion = True
        volume.deleted_at = volume.deleted_at or self.clock.seconds()

    # --- what the account allows

    def _throttle(self, mutation: str) -> None:
        seconds = self.behaviour.throttles.get(mutation)
        if seconds is None:
            return
        now = self.clock.seconds()
        last = self._created_at.get(mutation)
        if last is not None and now - last < seconds:
            raise refused(_THROTTLED[mutation].format(seconds))
        self._created_at[mutation] = now

    def _limit(self, kind: str, held: int) -> None:
        if held >= self.behaviour.limits.get(kind, held + 1):
            raise refused("Free plan resource provision limit exceeded. Please upgrade to provision more resources!")


def _settings(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs of a service as a change of its configuration; an explicit null takes a setting away."""
    change: dict[str, Any] = {"source": wanted["source"]} if "source" in wanted else {}
    apart = ("source", "projectId", "environmentId", "name", "variables")
    deploy = {key: value for key, value in wanted.items() if key not in apart}
    return {**change, "deploy": deploy} if deploy else change
