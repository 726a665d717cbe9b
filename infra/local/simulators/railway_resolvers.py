"""Railway's schema bound to the simulator's world: what each root field reads or does, and how rows look from outside.

Methods and arguments carry the names of the schema, which are not Python's. `orderBy` is accepted and ignored.
"""

# ruff: noqa: A002, N802, N803
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from graphql import GraphQLObjectType, GraphQLResolveInfo, GraphQLSchema, OperationType, build_schema

from infra.local.simulators.railway_state import (
    Deployment,
    Domain,
    Environment,
    Project,
    Row,
    Service,
    ServiceInstance,
    VolumeInstance,
    refused,
)
from infra.local.simulators.railway_world import World

SomeRow = TypeVar("SomeRow", bound=Row)
View = dict[str, Any]
SDL = (Path(__file__).parent / "railway_schema.graphql").read_text()
MASK = "*****"


@lru_cache
def schema() -> GraphQLSchema:
    """Return the executable schema, made once: its root fields are methods of the root value that it is executed with."""
    built = build_schema(SDL)
    for root, methods in ((built.query_type, _Queries), (built.mutation_type, _Mutations)):
        assert isinstance(root, GraphQLObjectType)
        for name, field in root.fields.items():
            assert hasattr(methods, name), f"{name} is in the schema and nowhere else"
            field.resolve = _resolve
    return built


def roots(world: World) -> Mapping[OperationType, object]:
    """Return the root values over *world* that queries and mutations are executed with."""
    return {OperationType.QUERY: _Queries(world), OperationType.MUTATION: _Mutations(world)}


def _resolve(root: _Queries | _Mutations, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    return getattr(root, info.field_name)(**arguments)


class _Views:
    """Rows as GraphQL sees them; what costs something is a function that the engine calls when it is selected."""

    def __init__(self, world: World) -> None:
        self.world = world

    def project(self, row: Project) -> View:
        world = self.world
        own = [environment for environment in world.environments.values() if environment.project_id == row.id]
        return self._common(row) | {
            "name": row.name,
            "description": row.description,
            "workspaceId": row.workspace_id,
            "baseEnvironmentId": own[0].id,
            "primaryEnvironmentId": own[0].id,
            "isPublic": row.is_public,
            "prDeploys": row.pr_deploys,
            "environments": lambda _info, **page: self.page(_living(own, row), self.environment, **page),
            "services": lambda _info, **page: self.page(_within(world.services, row), self.service, **page),
            "volumes": lambda _info, **page: self.page(
                [volume for volume in world.kept_volumes() if volume.project_id == row.id], self.volume, **page
            ),
        }

    def environment(self, row: Environment) -> View:
        return self._common(row) | {
            "name": row.name,
            "projectId": row.project_id,
            "isEphemeral": False,
            "config": lambda _info, **_: self._config(row),
            "serviceInstances": lambda _info, **page: self.page(
                self.world.visible_instances(row.id), self.service_instance, may_be_cut=True, **page
            ),
            "volumeInstances": lambda _info, **page: self.page(self.world.visible_volumes(row.id), self.volume_instance, **page),
        }

    def service(self, row: Service) -> View:
        return self._common(row) | {"name": row.name, "projectId": row.project_id}

    def service_instance(self, row: ServiceInstance) -> View:
        deploy = row.config.get("deploy", {})
        settings = ("startCommand", "healthcheckPath", "healthcheckTimeout", "region", "numReplicas", "sleepApplication")
        return self._common(row) | {
            "serviceId": row.service.id,
            "serviceName": row.service.name,
            "environmentId": row.environment_id,
            "source": row.config.get("source"),
            "domains": lambda _info: self.domains(row),
            "latestDeployment": lambda _info: self.deployment(row.deployments[-1]) if row.deployments else None,
            **{name: deploy.get(name) for name in settings},
        }

    def deployment(self, row: Deployment) -> View:
        domains = row.instance.domains
        return self._common(row) | {
            "status": row.status,
            "statusUpdatedAt": self.world.clock.text(row.status_at),
            "serviceId": row.instance.service.id,
            "environmentId": row.instance.environment_id,
            "projectId": row.instance.service.project_id,
            "deploymentStopped": row.status in ("CRASHED", "REMOVED"),
            "meta": {"image": row.image},
            "staticUrl": domains[0].domain if domains else None,
            "url": domains[0].domain if domains else None,
        }

    def volume(self, row: VolumeInstance) -> View:
        return self._common(row) | {"id": row.volume_id, "name": row.name, "projectId": row.project_id}

    def volume_instance(self, row: VolumeInstance) -> View:
        return self._common(row) | {
            "volumeId": row.volume_id,
            "serviceId": row.service_id,
            "environmentId": row.environment_id,
            "mountPath": row.mount_path,
            "region": row.region,
            "sizeMB": 5000,
            "currentSizeMB": 0.0,
            "state": "DELETING" if row.is_pending_deletion else "READY",
            "isPendingDeletion": row.is_pending_deletion,
            "volume": lambda _info: self.volume(row),
        }

    def domains(self, row: ServiceInstance) -> View:
        return {"customDomains": [], "serviceDomains": [self.domain(domain) for domain in row.domains]}

    def domain(self, row: Domain) -> View:
        return self._common(row) | {
            "domain": row.domain,
            "suffix": row.domain.partition(".")[2],
            "targetPort": row.target_port,
            "projectId": row.project_id,
            "environmentId": row.environment_id,
            "serviceId": row.service_id,
            "syncStatus": "ACTIVE",
        }

    def page(
        self,
        rows: Iterable[SomeRow],
        view: Callable[[SomeRow], View],
        *,
        first: int | None = None,
        after: str | None = None,
        may_be_cut: bool = False,
        **_filters: Any,
    ) -> View:
        """Return one page of a relay connection; the last one carries an `endCursor` too, as Railway's do."""
        cut = self.world.behaviour.cut if may_be_cut else None
        if after is not None and cut in ("next_fails", "half"):
            raise refused("Problem processing request")
        rest = [row for row in rows if after is None or row.order > int(after)]
        size = min(first or self.world.behaviour.max_page, self.world.behaviour.max_page)
        shown = rest[: max(len(rest) // 2, 1)] if cut == "half" else rest[:size]
        end = str(shown[-1].order) if shown else after
        if cut == "stuck":
            end = after or end
        return {
            "edges": [{"cursor": str(row.order), "node": view(row)} for row in shown],
            "pageInfo": {
                "endCursor": end,
                "startCursor": str(shown[0].order) if shown else None,
                "hasNextPage": len(shown) < len(rest) or cut is not None,
                "hasPreviousPage": after is not None,
            },
        }

    def _common(self, row: Row) -> View:
        clock = self.world.clock
        return {"id": row.id, "createdAt": clock.text(row.created_at), "deletedAt": clock.text(row.deleted_at)}

    def _config(self, row: Environment) -> View:
        instances = self.world.visible_instances(row.id)
        return {"services": {instance.service.id: _masked(instance.config) for instance in instances}}


class _Queries:
    """The root fields of `Query`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._views = _Views(world)

    def project(self, id: str) -> View:
        return self._views.project(self._world.find(self._world.projects, id, "Project"))

    def projects(self, *, workspaceId: str | None = None, includeDeleted: bool = False, **page: Any) -> View:
        rows = [
            row
            for row in self._world.projects.values()
            if (includeDeleted or row.deleted_at is None) and workspaceId in (None, row.workspace_id)
        ]
        return self._views.page(rows, self._views.project, may_be_cut=True, **page)

    def projectsByIds(self, ids: list[str]) -> list[View]:
        return [self._views.project(row) for row in self._world.projects.values() if row.id in ids]

    def environment(self, id: str, projectId: str | None = None) -> View:
        return self._views.environment(self._world.find(self._world.environments, id, "Environment"))

    def environments(self, projectId: str, **page: Any) -> View:
        project = self._world.find(self._world.projects, projectId, "Project")
        return self._views.page(_within(self._world.environments, project), self._views.environment, **page)

    def service(self, id: str) -> View:
        return self._views.service(self._world.find(self._world.services, id, "Service"))

    def serviceInstance(self, serviceId: str, environmentId: str) -> View:
        return self._views.service_instance(self._world.instance(serviceId, environmentId))

    def serviceInstanceLimitOverride(self, serviceId: str, environmentId: str) -> Any:
        instance = self._world.instance(serviceId, environmentId)
        return instance.config.get("deploy", {}).get("limitOverride")

    def deployment(self, id: str) -> View:
        return self._views.deployment(_deployment(self._world, id))

    def deployments(self, *, input: Mapping[str, Any], **page: Any) -> View:
        status = input.get("status") or {}
        rows = [
            row
            for row in self._world.deployments.by_id.values()
            if input.get("serviceId") in (None, row.instance.service.id)
            and input.get("environmentId") in (None, row.instance.environment_id)
            and input.get("projectId") in (None, row.instance.service.project_id)
            and row.status in (status.get("in") or [row.status])
            and row.status not in (status.get("notIn") or [])
        ]
        return self._views.page(rows, self._views.deployment, **page)

    def domains(self, *, serviceId: str, environmentId: str, projectId: str) -> View:
        return self._views.domains(self._world.instance(serviceId, environmentId))

    def variables(
        self, *, projectId: str, environmentId: str, serviceId: str | None = None, unrendered: bool = False
    ) -> dict[str, str]:
        if serviceId is None:
            return self._world.find(self._world.environments, environmentId, "Environment").shared_variables
        config = self._world.instance(serviceId, environmentId).config
        return {name: entry["value"] for name, entry in config.get("variables", {}).items()}


class _Mutations:
    """The root fields of `Mutation`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._views = _Views(world)

    def projectCreate(self, input: dict[str, Any]) -> View:
        return self._views.project(self._world.create_project(input))

    def projectDelete(self, id: str) -> bool:
        self._world.delete_project(id)
        return True

    def serviceCreate(self, input: dict[str, Any]) -> View:
        return self._views.service(self._world.create_service(input))

    def serviceDelete(self, id: str, environmentId: str | None = None) -> bool:
        self._world.delete_service(id)
        return True

    def serviceInstanceUpdate(self, serviceId: str, input: dict[str, Any], environmentId: str | None = None) -> bool:
        for instance in self._instances(serviceId, environmentId):
            self._world.update_instance(instance, input)
        return True

    def serviceInstanceDeployV2(self, serviceId: str, environmentId: str, commitSha: str | None = None) -> str:
        return self._world.deploy(self._world.instance(serviceId, environmentId)).id

    def serviceInstanceRedeploy(self, serviceId: str, environmentId: str) -> bool:
        instance = self._world.instance(serviceId, environmentId)
        if not instance.deployments:
            raise refused("Deployment not found")
        self._world.deploy(instance, replay=instance.deployments[-1])
        return True

    def serviceInstanceLimitsUpdate(self, input: dict[str, Any]) -> bool:
        instance = self._world.instance(input["serviceId"], input["environmentId"])
        self._world.limit_instance(instance, cpu=input.get("vCPUs"), memory_gb=input.get("memoryGB"))
        return True

    def environmentPatchCommit(self, environmentId: str, patch: Any = None, commitMessage: str | None = None) -> str:
        self._world.commit(environmentId, patch)
        return str(uuid4())

    def variableCollectionUpsert(self, input: dict[str, Any]) -> bool:
        self._world.upsert_variables(input)
        return True

    def deploymentRedeploy(self, id: str, usePreviousImageTag: bool = False) -> View:
        old = _deployment(self._world, id)
        if old.status in ("INITIALIZING", "DEPLOYING"):
            raise refused("Cannot redeploy yet, please wait for the original deployment to finish building")
        return self._views.deployment(self._world.deploy(old.instance, replay=old))

    def deploymentRemove(self, id: str) -> bool:
        self._world.deployments.set_status(_deployment(self._world, id), "REMOVED")
        return True

    def serviceDomainCreate(self, input: dict[str, Any]) -> View:
        return self._views.domain(self._world.create_domain(input))

    def serviceDomainDelete(self, id: str) -> bool:
        self._world.delete_domain(id)
        return True

    def volumeCreate(self, input: dict[str, Any]) -> View:
        return self._views.volume(self._world.create_volume(input))

    def volumeDelete(self, volumeId: str) -> bool:
        self._world.delete_volume(volumeId)
        return True

    def _instances(self, service_id: str, environment_id: str | None) -> list[ServiceInstance]:
        if environment_id is not None:
            return [self._world.instance(service_id, environment_id)]
        self._world.find(self._world.services, service_id, "Service")
        return [instance for instance in self._world.instances.values() if instance.service.id == service_id]


def _deployment(world: World, deployment_id: str) -> Deployment:
    return world.find(world.deployments.by_id, deployment_id, "Deployment")


def _within(rows: Mapping[str, Any], project: Project) -> list[Any]:
    return _living([row for row in rows.values() if row.project_id == project.id], project)


def _living(rows: list[Any], project: Project) -> list[Any]:
    """Leave out what is deleted, except in a project that is deleted itself."""
    return [row for row in rows if row.deleted_at is None or project.deleted_at is not None]


def _masked(config: View) -> View:
    deploy = config.get("deploy", {})
    if "registryCredentials" not in deploy:
        return config
    return {**config, "deploy": {**deploy, "registryCredentials": {"username": MASK, "password": MASK}}}
