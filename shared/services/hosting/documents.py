"""The GraphQL documents that we send to Railway, and the part of its answers that we read. No call is made here.

Names and nullability are the schema's. `Deployment.service` and `VolumeInstance.service` are left out on purpose: they are
declared non-null and void a whole answer once their service is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

PAGE_SIZE = 200


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


class Created(_Model):
    """What a creation returned."""

    id: str


class Service(_Model):
    """A service of a project, without its settings."""

    id: str
    name: str
    deleted_at: str | None = None


class Environment(_Model):
    """An environment of a project."""

    id: str
    name: str
    deleted_at: str | None = None


class Domain(_Model):
    """A domain that Railway generated."""

    id: str
    domain: str


class Domains(_Model):
    """The domains of a service instance."""

    service_domains: tuple[Domain, ...]


class Volume(_Model):
    """A volume of a project; it tells neither its service nor whether it is being deleted."""

    id: str
    created_at: AwareDatetime


class VolumeInstance(_Model):
    """A volume in an environment; appears some seconds after its creation."""

    volume_id: str
    service_id: str | None
    is_pending_deletion: bool
    deleted_at: str | None

    @property
    def is_gone(self) -> bool:
        """A deletion is soft and counts from its request on: Railway purges the volume within two days."""
        return self.is_pending_deletion or self.deleted_at is not None


class Deployment(_Model):
    """A deployment in a listing."""

    id: str
    status: str


class Source(_Model):
    """What a service is deployed from."""

    image: str | None


class ServiceInstance(_Model):
    """A service in an environment, with its latest deployment."""

    service_id: str
    service_name: str
    created_at: str
    deleted_at: str | None
    source: Source | None
    domains: Domains
    latest_deployment: Deployment | None


class PageInfo(_Model):
    """Where a listing goes on."""

    has_next_page: bool
    end_cursor: str | None


Node = TypeVar("Node")
Shape = TypeVar("Shape")


class Edge(_Model, Generic[Node]):
    """One entry of a page."""

    node: Node


class Page(_Model, Generic[Node]):
    """One page of a relay connection."""

    edges: tuple[Edge[Node], ...]
    page_info: PageInfo

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The entries of the page."""
        return tuple(edge.node for edge in self.edges)


class InstancesOfEnvironment(_Model):
    """The service instances of an environment."""

    service_instances: Page[ServiceInstance]


class VolumesOfEnvironment(_Model):
    """The volume instances of an environment."""

    volume_instances: Page[VolumeInstance]


class ServicesOfProject(_Model):
    """The services of a project."""

    services: Page[Service]


class VolumesOfProject(_Model):
    """The volumes of a project."""

    volumes: Page[Volume]


class Answer(_Model, Generic[Shape]):
    """The data of an answer: each document gives its one root field the alias `answer`."""

    answer: Shape


class Data(_Model, Generic[Shape]):
    """An answer without errors."""

    data: Answer[Shape]


_INSTANCE = """serviceId serviceName createdAt deletedAt source { image }
  domains { serviceDomains { id domain } } latestDeployment { id status }"""
DOCUMENTS: Mapping[str, str] = {
    "environment listing": """query Environments($projectId: String!, $first: Int, $after: String) {
      answer: environments(projectId: $projectId, first: $first, after: $after) {
        edges { node { id name deletedAt } } pageInfo { hasNextPage endCursor } } }""",
    "service listing": """query Services($projectId: String!, $first: Int, $after: String) {
      answer: project(id: $projectId) { services(first: $first, after: $after) {
        edges { node { id name deletedAt } } pageInfo { hasNextPage endCursor } } } }""",
    "volume listing": """query Volumes($projectId: String!, $first: Int, $after: String) {
      answer: project(id: $projectId) { volumes(first: $first, after: $after) {
        edges { node { id createdAt } } pageInfo { hasNextPage endCursor } } } }""",
    "volume instance listing": """query VolumeInstances($environmentId: String!, $first: Int, $after: String) {
      answer: environment(id: $environmentId) { volumeInstances(first: $first, after: $after) {
        edges { node { volumeId serviceId isPendingDeletion deletedAt } } pageInfo { hasNextPage endCursor } } } }""",
    "instance listing": f"""query Instances($environmentId: String!, $first: Int, $after: String) {{
      answer: environment(id: $environmentId) {{ serviceInstances(first: $first, after: $after) {{
        edges {{ node {{ {_INSTANCE} }} }} pageInfo {{ hasNextPage endCursor }} }} }} }}""",
    "instance query": f"""query Instance($serviceId: String!, $environmentId: String!) {{
      answer: serviceInstance(serviceId: $serviceId, environmentId: $environmentId) {{ {_INSTANCE} }} }}""",
    "domain query": """query Domains($projectId: String!, $environmentId: String!, $serviceId: String!) {
      answer: domains(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId) {
        serviceDomains { id domain } } }""",
    "service creation": "mutation ServiceCreate($input: ServiceCreateInput!) { answer: serviceCreate(input: $input) { id } }",
    "volume creation": "mutation VolumeCreate($input: VolumeCreateInput!) { answer: volumeCreate(input: $input) { id } }",
    "domain creation": """mutation ServiceDomainCreate($input: ServiceDomainCreateInput!) {
      answer: serviceDomainCreate(input: $input) { id domain } }""",
    "deployment commit": """mutation PatchCommit($environmentId: String!, $patch: EnvironmentConfig, $commitMessage: String) {
      answer: environmentPatchCommit(environmentId: $environmentId, patch: $patch, commitMessage: $commitMessage) }""",
    "service deletion": "mutation ServiceDelete($id: String!) { answer: serviceDelete(id: $id) }",
    "volume deletion": "mutation VolumeDelete($volumeId: String!) { answer: volumeDelete(volumeId: $volumeId) }",
}
"""Every document that we send, by what is told of it when it fails; a test validates each against the schema."""
