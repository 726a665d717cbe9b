"""Railway: its GraphQL endpoint over HTTP, with tokens, limits and failures as the vendor has them.

The operation of a call, for `calls` and `fail`, is the first root field of its document (`serviceCreate`). What the account
holds and how deployments come up is in `railway_world.py` and `railway_deployments.py`; the knobs are `behaviour`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    execute_sync,
    parse,
    validate,
)
from graphql.execution.values import get_variable_values
from werkzeug.wrappers import Request, Response

from infra.local.simulators.base import Fault, Simulator, answer
from infra.local.simulators.railway_resolvers import roots, schema
from infra.local.simulators.railway_state import Deployment, Machines, NoMachines
from infra.local.simulators.railway_world import World

TOKEN = "railway-token"
PROJECT_ID = "11111111-1111-4111-8111-111111111111"
ENVIRONMENT_ID = "22222222-2222-4222-8222-222222222222"
EDGE_LIMIT_PER_SECOND = 10


class BadDocumentError(Exception):
    """The request is refused with HTTP 400 before anything runs."""

    def __init__(self, code: str, errors: list[GraphQLError]) -> None:
        super().__init__(code)
        self.code = code
        self.errors = errors


@dataclass(frozen=True)
class Prepared:
    """A request that parses and validates."""

    document: DocumentNode
    operation: OperationDefinitionNode
    variables: dict[str, Any]

    @property
    def root_field(self) -> str:
        """The name under which the call is recorded."""
        first = self.operation.selection_set.selections[0]
        return first.name.value if isinstance(first, FieldNode) else "unknown"


class RailwaySimulator(Simulator):
    """One Railway account with a project `agents` and its environment `production`."""

    name = "railway"
    routes = (("POST", "/graphql/v2", "graphql"),)

    def __init__(
        self,
        *,
        tokens: tuple[str, ...] = (TOKEN,),
        machines: Machines | None = None,
        clock: Callable[[], float] = time.monotonic,
        domain_suffix: str = "up.railway.app",
        boot_seconds: float = 3.0,
        latency_seconds: float = 0.0,
    ) -> None:
        super().__init__(latency_seconds=latency_seconds)
        self.tokens = tokens
        self.world = World(seconds=clock, machines=machines or NoMachines(), domain_suffix=domain_suffix)
        self.behaviour = self.world.behaviour
        self.behaviour.boot_seconds = boot_seconds
        self.project_id = PROJECT_ID
        self.environment_id = ENVIRONMENT_ID
        self.world.create_project({"name": "agents"}, project_id=PROJECT_ID, environment_id=ENVIRONMENT_ID)
        self._roots = roots(self.world)
        self._clock = clock
        self._window_started_at = clock()
        self._spent = 0
        self._without_source: deque[float] = deque()

    # --- for tests and the local stack

    def poke(self) -> None:
        """Bring deployments up to date although nobody asks: machines start and stop. For a timer."""
        with self.lock:
            self.world.deployments.settle()

    def refuse(self, operation: str, message: str, **options: Any) -> Fault:
        """Have *operation* answered, once unless *options* say otherwise, with an error inside status 200."""
        error = {"message": message, "path": [operation], "extensions": {"code": "INTERNAL_SERVER_ERROR"}, "traceId": "0"}
        return self.fail(operation, "refuse", status=200, body={"errors": [error], "data": None}, **options)

    def edge_refuses(self, operation: str = "*", **options: Any) -> Fault:
        """Have *operation* answered as Cloudflare does in front of the API: 429, not JSON, no headers."""
        return self.fail(operation, "refuse", status=429, body="error code: 1015", **options)

    def add_project(self, name: str, *, workspace_id: str | None = None) -> str:
        """Add a project and return its id."""
        with self.lock:
            return self.world.create_project({"name": name, "workspaceId": workspace_id}).id

    def add_service(self, name: str, *, image: str | None = None, status: str | None = None) -> str:
        """Add a service to the first project, with a domain and a deployment in *status*; return its id."""
        with self.lock:
            service = self.world.create_service({"projectId": PROJECT_ID, "environmentId": ENVIRONMENT_ID, "name": name})
            instance = self.world.instances[service.id, ENVIRONMENT_ID]
            self.world.create_domain({"serviceId": service.id, "environmentId": ENVIRONMENT_ID, "targetPort": 8080})
            if image is not None:
                self.world.update_instance(instance, {"source": {"image": image}})
            if status is not None:
                self.world.deployments.set_status(instance.deployments[-1], status)
            return service.id

    def set_deploy_status(self, service_id: str, status: str) -> None:
        """Give the latest deployment of a service a status, such as CRASHED or SLEEPING."""
        with self.lock:
            self.world.deployments.settle()
            self.world.deployments.set_status(self.deployments_of(service_id)[-1], status)

    def crash(self, service_id: str) -> None:
        """Have the machine of a service die."""
        self.set_deploy_status(service_id, "CRASHED")

    def wake(self, domain: str) -> None:
        """Have a request arrive at the domain of a sleeping deployment, which wakes it."""
        with self.lock:
            for instance in self.world.instances.values():
                if [row.domain for row in instance.domains] == [domain] and instance.deployments[-1].status == "SLEEPING":
                    self.world.deployments.set_status(instance.deployments[-1], "SUCCESS")

    def deployments_of(self, service_id: str) -> list[Deployment]:
        """Return every deployment that a service ever had, oldest first."""
        with self.lock:
            own = [row for row in self.world.instances.values() if row.service.id == service_id]
            return [deployment for instance in own for deployment in instance.deployments]

    def inventory(self) -> dict[str, Any]:
        """Return what lives: services, volumes and projects as id → name, domains as domain → service id."""
        world = self.world
        return {
            "services": {row.id: row.name for row in world.services.values() if row.deleted_at is None},
            "volumes": {row.volume_id: row.service_id for row in world.volumes.values() if row.deleted_at is None},
            "projects": {row.id: row.name for row in world.projects.values() if row.deleted_at is None},
            "domains": {row.domain: row.service_id for row in world.domains.values() if row.deleted_at is None},
        }

    # --- HTTP

    def error(self, status: int, message: str) -> Response:
        """Return an error in GraphQL's form."""
        return answer({"errors": [{"message": message}]}, status)

    def authorize(self, request: Request) -> Response | None:
        """Refuse, inside status 200 as Railway does, a token that is not one of ours; and, at the edge, a flood."""
        if not request.query_string and self._floods():
            return Response("error code: 1015", 429, content_type="text/plain")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token not in self.tokens:
            return answer({"errors": [{"message": "Not Authorized", "traceId": "0"}], "data": None})
        return None

    def _floods(self) -> bool:
        """Count callers that do not name themselves in the address: the edge has a limit of its own for them."""
        with self.lock:
            now = self._clock()
            self._without_source.append(now)
            while self._without_source[0] <= now - 1:
                self._without_source.popleft()
            return len(self._without_source) > EDGE_LIMIT_PER_SECOND

    def _serve(self, operation: str, request: Request, arguments: Mapping[str, Any]) -> Response:
        refusal = self.authorize(request)
        if refusal is not None:
            return refusal
        try:
            prepared = _prepare(request)
        except BadDocumentError as bad:
            errors = [{**error.formatted, "extensions": {"code": bad.code}, "traceId": "0"} for error in bad.errors]
            return answer({"errors": errors}, 400)
        return self.perform(prepared.root_field, prepared.variables, request, lambda: self._within_budget(prepared))

    def _within_budget(self, prepared: Prepared) -> Response:
        with self.lock:
            now = self._clock()
            if now - self._window_started_at >= 3600:
                self._window_started_at, self._spent = now, 0
            limit, ends_at = self.behaviour.hourly_limit, self._window_started_at + 3600
            response = self._execute(prepared) if self._spent < limit else Response("Too Many Requests", 429)
            self._spent = min(self._spent + 1, limit)
            response.headers["X-RateLimit-Limit"] = str(limit)
            response.headers["X-RateLimit-Remaining"] = str(limit - self._spent)
            response.headers["X-RateLimit-Reset"] = str(self.world.clock.epoch(ends_at))
            if response.status_code == 429:
                response.headers["Retry-After"] = str(int(ends_at - now) + 1)
            return response

    def _execute(self, prepared: Prepared) -> Response:
        self.world.deployments.settle()
        root = self._roots[prepared.operation.operation]
        result = execute_sync(schema(), prepared.document, root_value=root, variable_values=prepared.variables)
        assert isinstance(result, ExecutionResult)
        self.world.deployments.settle()
        if not result.errors:
            return answer({"data": result.data})
        return answer({"errors": [{**error.formatted, "traceId": "0"} for error in result.errors], "data": result.data})


def _prepare(request: Request) -> Prepared:
    body = request.get_json(force=True)
    document = _validated(str(body.get("query")))
    operation = next(node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    variables = body.get("variables") or {}
    coerced = get_variable_values(schema(), operation.variable_definitions or (), variables)
    if isinstance(coerced, list):
        raise BadDocumentError("BAD_USER_INPUT", coerced)
    return Prepared(document, operation, variables)


@lru_cache(maxsize=256)
def _validated(text: str) -> DocumentNode:
    try:
        document = parse(text)
    except GraphQLError as error:
        raise BadDocumentError("GRAPHQL_PARSE_FAILED", [error]) from error
    errors = validate(schema(), document)
    if errors:
        raise BadDocumentError("GRAPHQL_VALIDATION_FAILED", errors)
    return document
