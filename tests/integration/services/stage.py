"""The services side's context over simulators and a real database, with instances that are simply there."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from pydantic import SecretStr

from infra.local.simulators.ghcr import GhcrSimulator
from infra.local.simulators.railway import ENVIRONMENT_ID, PROJECT_ID, TOKEN, RailwaySimulator
from infra.runtime.agent import Agent
from infra.runtime.machines import Machines
from shared.api.services import Configure, Observed, StatusBatch, StatusPage
from shared.db import Database, Json, Query, Rows
from shared.remote import NO_RETRY
from shared.services import names, observe
from shared.services.context import Context
from shared.services.hosting.base import Launch, Placement
from shared.services.hosting.images import GhcrSettings, ImageRegistry
from shared.services.hosting.railway import RailwayApi, RailwaySettings
from shared.services.hosting.topology import make_host
from shared.services.runtime import RuntimeClient
from shared.services.sealing import Ring
from shared.services.settings import ServicesSettings
from shared.services.tools_api import ToolsApi

REPOSITORY = "convos/agent"
IMAGE = f"ghcr.io/{REPOSITORY}:latest"
_INSERT = Query.parse(
    "insert_built",
    """
    INSERT INTO services.instances (id, name, state, topology, project_id, environment_id, service_id, volume_id, domain,
                                    gateway_token, gateway_token_hash, setup_password, services_token, built_at)
    SELECT n.id, n.name, 'created', 'shared', n.project_id, n.environment_id, n.service_id, n.volume_id, n.domain,
           n.gateway_token, CAST(n.gateway_token_hash AS bytea), n.setup_password, n.services_token, now() - interval '10 seconds'
      FROM json_populate_recordset(CAST(NULL AS services.instances), CAST(:rows AS json)) AS n;
    """,
)
_AGE = Query.parse(
    "age",
    """
    WITH passed AS (SELECT make_interval(secs => CAST(:seconds AS float8)) AS time),
    i AS (UPDATE services.instances SET seen_at = seen_at - time, missing_since = missing_since - time,
                 built_at = built_at - time, checked_at = checked_at - time, failing_since = failing_since - time,
                 conversation_read_at = conversation_read_at - time FROM passed),
    l AS (UPDATE services.listings SET began_at = began_at - time, ended_at = ended_at - time FROM passed),
    f AS (UPDATE services.facts SET image_checked_at = image_checked_at - time FROM passed)
    UPDATE services.leases SET expires_at = expires_at - time FROM passed;
    """,
)


class Stage:
    """Everything a test of the services side may look at or provoke."""

    def __init__(self, database_url: str, **settings: Any) -> None:
        self.machines = Machines()
        self.railway = RailwaySimulator(machines=self.machines, boot_seconds=0)
        self.ghcr = GhcrSimulator()
        self.digest = self.ghcr.push(REPOSITORY, "latest")
        self.db = Database(database_url, max_connections=4)
        railway = RailwaySettings.model_validate(
            {
                "railway_api_url": "http://railway/graphql/v2",
                "railway_api_token": TOKEN,
                "railway_project_id": PROJECT_ID,
                "railway_environment_id": ENVIRONMENT_ID,
            }
        )
        self.host = make_host(railway, RailwayApi(railway, transport=httpx.WSGITransport(self.railway), retry=NO_RETRY))
        self.ring = Ring({"k1": b"1" * 32})
        self.context = Context(
            db=self.db,
            settings=_settings(database_url, **settings),
            ring=self.ring,
            host=self.host,
            images=ImageRegistry(
                GhcrSettings.model_validate({"ghcr_url": "http://ghcr"}), transport=httpx.WSGITransport(self.ghcr)
            ),
            runtime=RuntimeClient(transport=httpx.WSGITransport(self.machines)),
            tools=ToolsApi("http://tools", SecretStr("key"), transport=httpx.WSGITransport(self.ghcr)),
        )

    def build(self, instance_id: str, *, image: str = IMAGE) -> str:
        """Have an instance that was built ten seconds ago, at the provider and in the table; return its service's id."""
        placement = self.host.place()
        name = names.make("test", instance_id)
        for step in self.host.steps:
            placement = self.host.take(step, name, placement, doubtful=False)
        variables = {"GATEWAY_TOKEN": SecretStr(token_of(instance_id)), "POOL_API_KEY": SecretStr(token_of(instance_id))}
        self.host.deploy(placement, Launch(image, "", variables, 4, 8))
        self.insert(instance_id, placement=placement)
        self.railway.poke()
        assert placement.service_id is not None
        return placement.service_id

    def insert(self, *instance_ids: str, placement: Placement | None = None) -> None:
        """Have rows of built instances, each at *placement* or at a service of its own name."""
        rows = [self._row(instance_id, placement or _nowhere(instance_id)) for instance_id in instance_ids]
        self.db.run(_INSERT, rows=Json(rows))

    def _row(self, instance_id: str, placement: Placement) -> dict[str, Any]:
        def sealed(column: str) -> str:
            return self.ring.seal(SecretStr(token_of(instance_id)), instance_id=instance_id, column=column)

        return {
            "id": instance_id,
            "name": names.make("test", instance_id),
            **{name: getattr(placement, name) for name in Placement.__dataclass_fields__},
            **{column: sealed(column) for column in ("gateway_token", "setup_password", "services_token")},
            "gateway_token_hash": "\\x" + hashlib.sha256(token_of(instance_id).encode()).hexdigest(),
        }

    def destroy(self, instance_id: str) -> None:
        """Have an instance be destroyed, as far as the table tells."""
        self.do(
            "UPDATE services.instances SET state = 'destroyed', destroy_asked_at = now(), destroyed_at = now(),"
            " gateway_token = NULL, gateway_token_hash = NULL, setup_password = NULL, services_token = NULL,"
            " services_token_hash = NULL WHERE id = :id;",
            id=instance_id,
        )

    def age(self, seconds: float) -> None:
        """Let time pass, as far as the table tells."""
        self.db.run(_AGE, seconds=seconds)

    def do(self, sql: str, **params: object) -> Rows:
        """Run a statement of the test's own."""
        return self.db.run(Query.parse("test", sql), **params)

    def look(self, *ids: str, max_age: float = 0, deadline: float = 20.0, wake: Sequence[str] = ()) -> StatusPage:
        """Ask for the state of some instances."""
        request = StatusBatch(instance_ids=list(ids), max_age_seconds=max_age, deadline_seconds=deadline, wake=list(wake))
        return observe.status_batch(request, self.context)

    def look_at(self, instance_id: str, **options: Any) -> Observed:
        """Ask for the state of one instance."""
        return self.look(instance_id, **options).instances[instance_id]

    def agent(self, instance_id: str) -> Agent:
        """Return the agent that runs in an instance."""
        domain = self.do("SELECT domain FROM services.instances WHERE id = :id;", id=instance_id)[0]["domain"]
        return self.machines.agent(domain)

    def listings(self) -> int:
        """How many pages the provider was asked for."""
        return sum(call.operation == "environment" for call in self.railway.calls)

    def close(self) -> None:
        """Close what was opened."""
        self.db.close()
        self.context.runtime.close()
        self.context.images.close()


def token_of(instance_id: str) -> str:
    """Return an instance's gateway token."""
    return f"token-of-{instance_id}"


def a_hand_over(generation: int = 1, claim_id: str = "claim-1", **fields: Any) -> Configure:
    """Return an introduction that may be sent within a minute."""
    values: dict[str, Any] = {
        "claim_id": claim_id,
        "generation": generation,
        "not_after": datetime.now(UTC) + timedelta(seconds=60),
        "agent_name": "Ada",
        "instructions": f"Serve {claim_id}.",
    }
    return Configure(**{**values, **fields})


def _nowhere(instance_id: str) -> Placement:
    return Placement(
        "shared", PROJECT_ID, ENVIRONMENT_ID, f"service-{instance_id}", f"volume-{instance_id}", f"{instance_id}.nowhere"
    )


def _settings(database_url: str, **settings: Any) -> ServicesSettings:
    return ServicesSettings.model_validate(
        {
            "services_database_url": database_url,
            "services_api_key": "services-key",
            "instance_secrets_key": "k1:" + base64.b64encode(b"1" * 32).decode(),
            "services_url": "http://services",
            "pool_url": "http://pool",
            "instance_url_template": "http://{domain}",
            "railway_runtime_image": IMAGE,
            "health_timeout_seconds": 2.0,
            "railway_start_command": "python -m agent",
            **settings,
        }
    )
