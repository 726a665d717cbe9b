"""Railway's API, call by call. What a topology does with these calls is in `topology.py`.

No mutation has an idempotency key, and an error can follow a change that did happen: after doubt, a caller looks things up.
An optional argument that is not given is left out, never sent as null: null unsets the stored value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from shared.errors import RemoteError
from shared.remote import Remote, Reply, Retry
from shared.services.hosting.base import Budget
from shared.services.hosting.documents import (
    DOCUMENTS,
    PAGE_SIZE,
    Created,
    Data,
    Domain,
    Domains,
    Environment,
    InstancesOfEnvironment,
    Page,
    Service,
    ServiceInstance,
    ServicesOfProject,
    Volume,
    VolumeInstance,
    VolumesOfEnvironment,
    VolumesOfProject,
)
from shared.services.hosting.refusals import better, failure_in
from shared.settings import SendableKey, Settings, reveal, separated

if TYPE_CHECKING:
    import httpx

Shape = TypeVar("Shape")
Node = TypeVar("Node")
CALLER = "convos-agents"
"""Stands in the address: callers without a query string meet Cloudflare's own limit of about ten requests a second."""
TIMEOUT_SECONDS = 60.0
"""Railway's own client waits 90 s; a few of its creations take longer than 30."""
READ_SECONDS = 30.0
"""A look may be repeated at any time; and a step that looks, creates and looks again must end within its worker's lease."""
MOST_PAGES = 500


def _absolute(path: str) -> str:
    if not path.startswith("/") or path == "/":
        raise ValueError("it must be an absolute path below /")
    return path


class RailwaySettings(Settings):
    """Where instances are hosted, and as whom we ask."""

    railway_api_url: str = Field("https://backboard.railway.com/graphql/v2", description="the address of Railway's GraphQL API")
    railway_api_token: Annotated[tuple[SendableKey, ...], BeforeValidator(separated)] = Field(
        min_length=1, description="account or workspace tokens of Railway, comma-separated, used in turn"
    )
    railway_topology: Literal["shared", "sharded"] = Field(
        "shared", description="shared: all instances in one project; sharded: a project for each"
    )
    railway_project_id: str | None = Field(None, description="the project of the shared topology")
    railway_environment_id: str | None = Field(None, description="the environment in that project")
    railway_environment_name: str | None = Field(None, description="that environment's name, instead of its id")
    railway_workspace_id: str | None = Field(None, description="the workspace in which projects are created")
    instance_volume_mount: Annotated[str, AfterValidator(_absolute)] = Field(
        "/data", description="where an instance finds its volume"
    )
    ghcr_username: str | None = Field(None, description="the GitHub user who may pull a private image")
    ghcr_token: SecretStr | None = Field(None, description="that user's classic token with read:packages")

    @model_validator(mode="after")
    def _consistent(self) -> RailwaySettings:
        if self.railway_environment_id and self.railway_environment_name:
            raise ValueError("RAILWAY_ENVIRONMENT_ID and RAILWAY_ENVIRONMENT_NAME are both set; keep one of them")
        if bool(self.ghcr_username) != bool(self.ghcr_token):
            raise ValueError("GHCR_USERNAME and GHCR_TOKEN belong together; set both or neither")
        if self.railway_topology == "shared":
            if not self.railway_project_id:
                raise ValueError("RAILWAY_PROJECT_ID (the project of the shared topology) is not set")
            if not (self.railway_environment_id or self.railway_environment_name):
                raise ValueError("RAILWAY_ENVIRONMENT_ID or RAILWAY_ENVIRONMENT_NAME (where instances live) is not set")
        return self


class RailwayApi:
    """A client of Railway, safe to share between threads. Every method raises RemoteError, with a `Problem` where one is told."""

    def __init__(
        self, settings: RailwaySettings, *, transport: httpx.BaseTransport | None = None, retry: Retry = Retry()
    ) -> None:
        base, _, self._path = settings.railway_api_url.rstrip("/").rpartition("/")
        self._remote = Remote(
            "Railway",
            base,
            headers={"User-Agent": CALLER},
            timeout_seconds=TIMEOUT_SECONDS,
            retry=retry,
            transport=transport,
        )
        self._tokens = itertools.cycle(settings.railway_api_token)
        self._budget = Budget(hourly_limit=None, remaining=None)

    @property
    def budget(self) -> Budget:
        """What the last answer that told it said of the calls left, for the token it was asked with."""
        return self._budget

    def close(self) -> None:
        """Close idle connections; the object can not be used afterwards."""
        self._remote.close()

    # --- looking

    def environments(self, project_id: str) -> tuple[Environment, ...]:
        """Return the environments of a project that are not deleted."""
        found = self._every(
            lambda after: self._read("environment listing", Page[Environment], projectId=project_id, **_page(after))
        )
        return tuple(environment for environment in found if environment.deleted_at is None)

    def services(self, project_id: str) -> tuple[Service, ...]:
        """Return the services of a project that are not deleted: a new one is here before its instance is anywhere."""
        found = self._every(
            lambda after: self._read("service listing", ServicesOfProject, projectId=project_id, **_page(after)).services
        )
        return tuple(service for service in found if service.deleted_at is None)

    def volumes(self, project_id: str) -> tuple[Volume, ...]:
        """Return the volumes of a project, those pending deletion too."""
        return self._every(
            lambda after: self._read("volume listing", VolumesOfProject, projectId=project_id, **_page(after)).volumes
        )

    def volume_instances(self, environment_id: str) -> tuple[VolumeInstance, ...]:
        """Return the volumes of an environment, those pending deletion too; a new one comes seconds after its creation."""
        return self._every(
            lambda after: (
                self._read(
                    "volume instance listing", VolumesOfEnvironment, environmentId=environment_id, **_page(after)
                ).volume_instances
            )
        )

    def instances_page(self, environment_id: str, after: str | None) -> Page[ServiceInstance]:
        """Return one page of the services of an environment with their latest deployments, in one call."""
        return self._read(
            "instance listing", InstancesOfEnvironment, environmentId=environment_id, **_page(after)
        ).service_instances

    def instance(self, service_id: str, environment_id: str) -> ServiceInstance:
        """Return one service with its latest deployment."""
        return self._read("instance query", ServiceInstance, serviceId=service_id, environmentId=environment_id)

    def domains(self, project_id: str, environment_id: str, *, service_id: str) -> tuple[Domain, ...]:
        """Return the domains that Railway generated for a service."""
        return self._read(
            "domain query", Domains, projectId=project_id, environmentId=environment_id, serviceId=service_id
        ).service_domains

    # --- creating

    def create_service(self, project_id: str, environment_id: str, *, name: str) -> str:
        """Create an empty service, which deploys nothing and costs nothing, and return its id."""
        wanted = {"projectId": project_id, "environmentId": environment_id, "name": name}
        return self._write("service creation", Created, input=wanted).id

    def create_volume(self, project_id: str, environment_id: str, *, service_id: str, mount_path: str) -> str:
        """Attach a new volume to a service and return its id; without the environment's id it would go to all of them."""
        wanted = {"projectId": project_id, "environmentId": environment_id, "serviceId": service_id, "mountPath": mount_path}
        return self._write("volume creation", Created, input=wanted).id

    def create_domain(self, environment_id: str, *, service_id: str, port: int) -> str:
        """Have Railway choose a domain that leads to *port* of a service, and return it."""
        wanted = {"environmentId": environment_id, "serviceId": service_id, "targetPort": port}
        return self._write("domain creation", Domain, input=wanted).domain

    def commit(self, environment_id: str, patch: Mapping[str, Any], *, message: str) -> None:
        """Apply changes at once; services that they change deploy once each, and a repetition changes nothing."""
        self._write("deployment commit", str, environmentId=environment_id, patch=patch, commitMessage=message)

    # --- deleting

    def delete_service(self, service_id: str) -> bool:
        """Delete a service from its project; whether Railway says that it did."""
        return self._write("service deletion", bool, id=service_id)

    def delete_volume(self, volume_id: str) -> bool:
        """Have a volume deleted, which Railway does within two days; whether it says that it will."""
        return self._write("volume deletion", bool, volumeId=volume_id)

    # --- sending

    def _every(self, page: Callable[[str | None], Page[Node]]) -> tuple[Node, ...]:
        """Read a listing to its end: part of one would prove nothing (P35)."""
        found: list[Node] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            current = page(cursor)
            found.extend(current.nodes)
            cursor = next_cursor(current, cursor)
            if cursor is None:
                return tuple(found)
        raise RemoteError("Railway", "a listing", "gave more pages than can be true")

    def _read(self, name: str, shape: type[Shape], **variables: Any) -> Shape:
        return self._run(name, shape, variables, repeatable=True)

    def _write(self, name: str, shape: type[Shape], **variables: Any) -> Shape:
        return self._run(name, shape, variables, repeatable=False)

    def _run(self, name: str, shape: type[Shape], variables: Mapping[str, Any], *, repeatable: bool) -> Shape:
        given = {key: value for key, value in variables.items() if value is not None}
        try:
            reply = self._remote.send(
                "POST",
                self._path,
                during=f"the {name}",
                json={"query": DOCUMENTS[name], "variables": given},
                params={"source": CALLER},
                headers={"Authorization": f"Bearer {reveal(next(self._tokens))}"},
                timeout_seconds=READ_SECONDS if repeatable else None,
                repeatable=repeatable,
            )
        except RemoteError as error:
            raise better(error) from error.__cause__
        self._note_budget(reply)
        failure = failure_in(reply)
        if failure is not None:
            raise failure
        answer: Data[Shape] = reply.parse(Data[shape])  # type: ignore[valid-type]
        return answer.data.answer

    def _note_budget(self, reply: Reply) -> None:
        limit, remaining = (_number(reply.headers.get(f"x-ratelimit-{part}")) for part in ("limit", "remaining"))
        if limit is not None or remaining is not None:
            self._budget = Budget(hourly_limit=limit, remaining=remaining)


def next_cursor(page: Page[Node], cursor: str | None) -> str | None:
    """Return where a listing goes on, None at its end. One that does not advance is an error, for it is not complete."""
    if not page.page_info.has_next_page:
        return None
    following = page.page_info.end_cursor
    if following is None or following == cursor:
        raise RemoteError("Railway", "a listing", "gave a page that leads nowhere")
    return following


def _page(after: str | None) -> dict[str, Any]:
    return {"first": PAGE_SIZE, "after": after}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
