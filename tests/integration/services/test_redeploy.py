"""An upgrade: a new deployment with the new digest, the start command and everything the instance needs (P40)."""

from __future__ import annotations

from typing import Any

import pytest

from shared.api.services import Redeploy, Redeployed, ServiceStatus
from shared.errors import ConflictError, NotFoundError, RemoteError
from shared.services import redeploy as redeploying
from shared.services.settings import OWN_VARIABLES
from tests.integration.services.stage import IMAGE, REPOSITORY, Stage, token_of


def redeploy(stage: Stage, **fields: Any) -> Redeployed:
    return redeploying.redeploy("a", Redeploy(**fields), stage.context)


def test_an_upgrade_is_a_new_deployment_with_everything_that_the_instance_needs(database_url: str) -> None:
    """P40, P42: the digest, the start command, all variables, and no key of ours."""
    stage = Stage(database_url, runtime_variables={"XMTP_ENV": "dev"})
    service_id = stage.build("a", image="ghcr.io/convos/agent@sha256:" + "0" * 64)

    answer = redeploy(stage)

    newest = stage.railway.deployments_of(service_id)[-1]
    assert answer.image == newest.image == f"ghcr.io/{REPOSITORY}@{stage.digest}"
    assert newest.config["deploy"]["startCommand"] == "python -m agent"
    assert newest.config["deploy"]["limitOverride"]["containers"] == {"cpu": 4.0, "memoryBytes": 8 * 1024**3}
    assert set(newest.variables) >= OWN_VARIABLES | {"XMTP_ENV"}
    assert newest.variables["GATEWAY_TOKEN"] == newest.variables["POOL_API_KEY"] == token_of("a")
    assert "services-key" not in newest.variables.values()
    assert len(stage.railway.deployments_of(service_id)) == 2
    stage.close()


def test_a_repeat_is_a_deployment_of_its_own(stage: Stage) -> None:
    """P40: without a difference the host would deploy nothing."""
    service_id = stage.build("a")
    redeploy(stage)
    redeploy(stage)

    assert len(stage.railway.deployments_of(service_id)) == 3


def test_a_given_image_is_pinned_too(stage: Stage) -> None:
    service_id = stage.build("a")
    digest = stage.ghcr.push("convos/other", "v2")

    redeploy(stage, image="ghcr.io/convos/other:v2")

    assert stage.railway.deployments_of(service_id)[-1].image == f"ghcr.io/convos/other@{digest}"
    assert stage.do("SELECT image FROM services.facts;")[0]["image"] in (None, IMAGE), "what is desired is unchanged"


def test_while_it_starts_again_it_is_deploying_and_an_older_listing_does_not_say_otherwise(stage: Stage) -> None:
    stage.build("a")
    assert stage.look_at("a").status is ServiceStatus.HEALTHY
    stage.railway.behaviour.boot_seconds = 3600

    redeploy(stage)

    assert stage.look_at("a").status is ServiceStatus.DEPLOYING
    stage.age(61)
    assert stage.look_at("a").status is ServiceStatus.DEPLOYING


def test_a_host_that_fails_leaves_everything_as_it_was(stage: Stage) -> None:
    stage.build("a")
    before = stage.look_at("a")
    stage.railway.fail("environmentPatchCommit", "refuse", status=500)

    with pytest.raises(RemoteError):
        redeploy(stage)

    assert stage.look_at("a", max_age=60) == before
    assert redeploy(stage).status == "deploying", "nobody works on it any more"


def test_two_at_once_are_one_deployment(stage: Stage) -> None:
    service_id = stage.build("a")
    codes: list[str] = []

    def second() -> None:
        with pytest.raises(ConflictError) as caught:
            redeploy(stage)
        codes.append(caught.value.code)

    stage.railway.fail("environmentPatchCommit", "hook", before=second)
    redeploy(stage)

    assert codes == ["in_progress"]
    assert len(stage.railway.deployments_of(service_id)) == 2


def test_only_a_built_instance_is_deployed_anew(stage: Stage) -> None:
    with pytest.raises(NotFoundError):
        redeploy(stage)
    stage.insert("a")
    stage.do("UPDATE services.instances SET state = 'creating', built_at = NULL;")
    with pytest.raises(ConflictError) as building:
        redeploy(stage)
    stage.destroy("a")
    with pytest.raises(ConflictError) as destroyed:
        redeploy(stage)

    assert (building.value.code, destroyed.value.code) == ("creating", "destroyed")
