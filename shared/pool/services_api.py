"""The only door to the other side: the services API over HTTP. No vendor is known here."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

import httpx
from pydantic import BaseModel, SecretStr

from shared.api.errors import explain
from shared.api.services import (
    Configure,
    Configured,
    Created,
    CreateInstance,
    Destroyed,
    Redeploy,
    Redeployed,
    Registry,
    Resources,
    Settle,
    Settled,
    StatusBatch,
    StatusPage,
    Sweep,
    SweepResult,
    Working,
)
from shared.errors import RemoteError
from shared.pool.models import Taken
from shared.remote import NO_RETRY, Remote, Reply, Retry
from shared.settings import reveal

ANSWER_MARGIN_SECONDS = 5.0
"""How much longer than the deadline it names a call waits for its answer."""


class ServicesApi:
    """The services side, as the pool sees it. Every method raises RemoteError when the other side did not do it."""

    def __init__(
        self, url: str, key: SecretStr, *, transport: httpx.BaseTransport | None = None, retry: Retry = NO_RETRY
    ) -> None:
        self._remote = Remote(
            "the services side",
            url,
            headers={"Authorization": f"Bearer {reveal(key)}"},
            transport=transport,
            retry=retry,
            explain=explain,
            max_connections=100,
        )

    def configure(self, taken: Taken, request: Configure, *, timeout_seconds: float) -> Configured:
        """Introduce an instance; the services side sends nothing once the time or the generation has passed."""
        return self._post(f"/configure/{_segment(taken.id)}", request, "the introduction", timeout_seconds).parse(Configured)

    def settle(self, instance_id: str, generation: int, *, timeout_seconds: float = 15.0) -> Settled:
        """Close a generation for good and learn what became of it; repeating is harmless."""
        path = f"/settle/{_segment(instance_id)}"
        return self._post(path, Settle(generation=generation), "the settling", timeout_seconds, repeatable=True).parse(Settled)

    def create(self, instance_id: str, *, deadline_seconds: float) -> Created | Working:
        """Build an instance, or go on building it; repeating never builds a second one."""
        body = CreateInstance(instance_id=instance_id, deadline_seconds=deadline_seconds)
        reply = self._post("/create-instance", body, "a creation", deadline_seconds + ANSWER_MARGIN_SECONDS)
        return reply.parse(Working) if reply.status == 202 else reply.parse(Created)

    def destroy(self, instance_id: str, *, deadline_seconds: float) -> Destroyed | Working:
        """Take an instance down, or go on; gone is success."""
        reply = self._remote.send(
            "DELETE",
            f"/destroy/{_segment(instance_id)}",
            during="a destruction",
            params={"deadlineSeconds": f"{deadline_seconds:.1f}"},
            timeout_seconds=deadline_seconds + ANSWER_MARGIN_SECONDS,
        )
        return reply.parse(Working) if reply.status == 202 else reply.parse(Destroyed)

    def status_batch(self, request: StatusBatch) -> StatusPage:
        """Read the state of up to 500 instances."""
        wait = request.deadline_seconds + ANSWER_MARGIN_SECONDS
        return self._post("/status/batch", request, "the observation", wait).parse(StatusPage)

    def redeploy(self, instance_id: str, request: Redeploy, *, timeout_seconds: float) -> Redeployed:
        """Start a new deployment."""
        return self._post(f"/redeploy/{_segment(instance_id)}", request, "a redeployment", timeout_seconds).parse(Redeployed)

    def sweep(self, request: Sweep) -> SweepResult:
        """Compare what every vendor holds with the services side's tables."""
        return self._post("/sweep", request, "the sweep", request.deadline_seconds + ANSWER_MARGIN_SECONDS).parse(SweepResult)

    def resources(self, instance_id: str) -> Resources:
        """Read what is held for an instance."""
        return self._get(f"/resources/{_segment(instance_id)}", "reading the ledger").parse(Resources)

    def registry(self) -> Registry:
        """Read which tools there are."""
        return self._get("/registry", "reading the registry").parse(Registry)

    def _get(self, path: str, during: str) -> Reply:
        return self._remote.send("GET", path, during=during, timeout_seconds=10.0, repeatable=True)

    def _post(self, path: str, body: BaseModel, during: str, timeout_seconds: float, *, repeatable: bool = False) -> Reply:
        return self._remote.send(
            "POST",
            path,
            during=during,
            json=body.model_dump(mode="json", by_alias=True, exclude_none=True),
            timeout_seconds=timeout_seconds,
            repeatable=repeatable,
        )


def is_tombstone(error: RemoteError) -> bool:
    """Whether the services side refused because the instance is destroyed."""
    return error.remote_code == "destroyed"


def introduction(taken: Taken, claim_id: str, **fields: object) -> Configure:
    """Build the body of an introduction."""
    return Configure.model_validate(
        {"claim_id": claim_id, "generation": taken.generation, "not_after": _aware(taken.not_after), **fields}
    )


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise AssertionError("the database gave a time without a zone")
    return moment


def _segment(instance_id: str) -> str:
    return quote(instance_id, safe="")
