"""The stand-in of the agent runtime keeps the runtime's contract, and fails as real ones did."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from infra.local.simulators.base import LostConnection
from infra.runtime.agent import Agent, Mode
from infra.runtime.machines import Machines

TOKEN = "instance-token"
ENVIRONMENT = {"GATEWAY_TOKEN": TOKEN, "POOL_API_KEY": TOKEN}
ALICE = {"agentName": "Alice's", "instructions": "Help Alice."}
BOB = {"agentName": "Bob's", "instructions": "Help Bob."}


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def caller(app: Agent | Machines, *, token: str = TOKEN, base: str = "http://agent") -> httpx.Client:
    return httpx.Client(transport=httpx.WSGITransport(app), base_url=base, headers={"Authorization": f"Bearer {token}"})


def status_of(agent: Agent) -> dict[str, Any]:
    body: dict[str, Any] = caller(agent).get("/convos/status").json()
    return body


def test_an_agent_is_not_ready_before_it_has_booted() -> None:
    clock = Clock()
    agent = Agent(ENVIRONMENT, "runtime:1", boot_seconds=20, clock=clock)
    assert caller(agent).get("/pool/health").json()["ready"] is False
    assert caller(agent).post("/pool/provision", json=ALICE).status_code == 503
    clock.now += 20
    assert caller(agent).get("/pool/health").json() == {"ready": True, "version": "1", "capabilities": ["variables"]}
    assert agent.heard == ()


@pytest.mark.parametrize("path", ["/pool/health", "/convos/status"])
def test_every_route_wants_the_instances_own_token(path: str) -> None:
    """P42: one instance's token opens no other."""
    assert caller(Agent(ENVIRONMENT, "runtime:1"), token="another").get(path).status_code == 401


def test_an_agent_that_booted_without_its_token_refuses_everybody() -> None:
    """P14."""
    assert caller(Agent({}, "runtime:1"), token="").get("/pool/health").status_code == 401


def test_a_conversation_is_created_with_an_invite() -> None:
    agent = Agent(ENVIRONMENT, "runtime:1")
    body = caller(agent).post("/pool/provision", json=ALICE).json()
    assert body["status"] == "created"
    assert body["joined"] is False
    assert body["inviteUrl"]
    assert status_of(agent) == {
        "conversationId": body["conversationId"],
        "inviteUrl": body["inviteUrl"],
        "pending": False,
        "clean": False,
    }


def test_an_invite_is_joined() -> None:
    body = caller(Agent(ENVIRONMENT, "runtime:1")).post("/pool/provision", json={**ALICE, "joinUrl": "https://x/i/1"}).json()
    assert (body["status"], body["joined"], body["inviteUrl"]) == ("joined", True, None)


def test_a_bound_agent_refuses_a_second_caller_and_hears_nothing_of_them() -> None:
    agent = Agent(ENVIRONMENT, "runtime:1")
    caller(agent).post("/pool/provision", json=ALICE)
    assert caller(agent).post("/pool/provision", json=BOB).status_code == 409
    assert [told.instructions for told in agent.heard] == ["Help Alice."]


def test_a_factory_reset_makes_it_clean_and_begins_a_new_life() -> None:
    agent = Agent(ENVIRONMENT, "runtime:1")
    caller(agent).post("/pool/provision", json={**ALICE, "variables": {"MAIL": "a@x"}})
    assert caller(agent).post("/convos/reset").json() == {"ok": True}
    assert status_of(agent)["clean"] is True
    assert "MAIL" not in agent.environment
    assert caller(agent).post("/pool/provision", json=BOB).status_code == 200
    assert [(told.life, told.agent_name) for told in agent.heard] == [(1, "Alice's"), (2, "Bob's")]


def test_a_join_that_waits_for_approval_is_pending_until_it_is_accepted() -> None:
    """P7."""
    agent = Agent(ENVIRONMENT, "runtime:1")
    body = caller(agent).post("/pool/provision", json={**ALICE, "joinUrl": "https://x/i/pending"}).json()
    assert (body["status"], body["conversationId"], body["joined"]) == ("pending_acceptance", None, False)
    assert status_of(agent)["pending"] is True
    agent.accept("c1")
    assert (status_of(agent)["conversationId"], status_of(agent)["pending"]) == ("c1", False)


def test_a_late_agent_loses_its_answer_and_joins_afterwards() -> None:
    """P4."""
    clock = Clock()
    agent = Agent(ENVIRONMENT, "runtime:1", late_seconds=330, clock=clock)
    with pytest.raises(LostConnection):
        caller(agent).post("/pool/provision", json={**ALICE, "joinUrl": "https://x/i/1"})
    assert (status_of(agent)["conversationId"], status_of(agent)["clean"]) == (None, False)
    clock.now += 330
    assert status_of(agent)["conversationId"] is not None


def test_a_reset_does_not_call_back_a_join_that_is_on_its_way() -> None:
    """P4: clean right after the reset, and bound again when the abandoned join succeeds."""
    clock = Clock()
    agent = Agent(ENVIRONMENT, "runtime:1", late_seconds=330, clock=clock)
    with pytest.raises(LostConnection):
        caller(agent).post("/pool/provision", json={**ALICE, "joinUrl": "https://x/i/1"})
    caller(agent).post("/convos/reset")
    assert status_of(agent)["clean"] is True
    clock.now += 330
    assert status_of(agent)["clean"] is False


def test_an_old_image_knows_only_health_and_provision() -> None:
    agent = Agent({"POOL_API_KEY": TOKEN}, "runtime:old")
    client = caller(agent)
    assert client.get("/pool/health").json() == {"ready": True}
    assert [client.get("/convos/status").status_code, client.post("/convos/reset").status_code] == [404, 404]
    assert client.post("/pool/restart", json={"env": {}}).status_code == 404
    assert "status" not in client.post("/pool/provision", json={**ALICE, "variables": {"MAIL": "a@x"}}).json()
    assert agent.heard[0].variables == {}


def test_a_restart_adds_variables_and_is_something_the_agent_was_told() -> None:
    agent = Agent(ENVIRONMENT, "runtime:1")
    assert caller(agent).post("/pool/restart", json={"env": {"MODEL": "m"}}).status_code == 200
    assert agent.environment["MODEL"] == "m"
    assert status_of(agent)["clean"] is False


@pytest.mark.parametrize("body", [{}, {"agentName": "A"}, {**ALICE, "variables": []}, {**ALICE, "joinUrl": 5}, [ALICE]])
def test_a_malformed_introduction_is_refused_and_not_heard(body: object) -> None:
    agent = Agent(ENVIRONMENT, "runtime:1")
    assert caller(agent).post("/pool/provision", json=body).status_code == 400
    assert agent.heard == ()


def test_an_agent_misbehaves_as_it_is_told_across_a_port() -> None:
    agent = Agent(ENVIRONMENT, "runtime:1")
    client = caller(agent)
    assert client.post("/_sim/behave", json={"mode": "html", "lateSeconds": 3}).status_code == 200
    assert client.get("/pool/health").headers["content-type"].startswith("text/html")
    assert agent.late_seconds == 3
    assert client.post("/_sim/behave", json={"mode": "nonsense"}).status_code == 400


def test_a_public_agent_has_no_controls() -> None:
    client = caller(Agent(ENVIRONMENT, "runtime:1", controls=False))
    assert client.post("/_sim/behave", json={"mode": "crashed"}).status_code == 404
    assert client.get("/_sim/calls").status_code == 404


def test_controls_tell_nothing_that_the_agent_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    """P41, P43."""
    agent = Agent(ENVIRONMENT, "runtime:1")
    told = {**ALICE, "joinUrl": "https://x/i/secret-invite", "variables": {"KEY": "secret-key"}}
    bound_to = caller(agent).post("/pool/provision", json=told).json()["conversationId"]
    shown = caller(agent).get("/_sim/inventory").text + caller(agent).get("/_sim/calls").text + repr(agent.heard)
    shown += "".join(capsys.readouterr())
    for secret in ("Help Alice", "secret-invite", "secret-key", TOKEN, bound_to):
        assert secret not in shown


def test_machines_give_each_domain_its_own_agent() -> None:
    machines = Machines()
    first = machines.start("a.up", {"GATEWAY_TOKEN": "one"}, "runtime:1")
    second = machines.start("b.up", {"GATEWAY_TOKEN": "two"}, "runtime:1")
    assert caller(machines, token="two").post("/b.up/pool/provision", json=BOB).status_code == 200
    assert caller(machines, token="two", base="http://b.up").get("/convos/status").json()["clean"] is False
    assert (len(first.heard), len(second.heard)) == (0, 1)
    assert caller(machines, token="two").get("/a.up/pool/health").status_code == 401


def test_nobody_lives_at_an_unknown_or_stopped_domain() -> None:
    machines = Machines()
    agent = machines.start("a.up", ENVIRONMENT, "runtime:1")
    machines.stop("a.up")
    machines.stop("a.up")
    reply = caller(machines).get("/a.up/pool/health")
    assert (reply.status_code, reply.json()["message"]) == (404, "Application not found")
    assert machines.ever() == [agent]


def test_the_first_request_to_a_sleeping_instance_fails_and_wakes_it() -> None:
    """P32."""
    machines = Machines()
    machines.start("a.up", ENVIRONMENT, "runtime:1")
    machines.sleep("a.up")
    assert caller(machines).get("/a.up/pool/health").status_code == 502
    assert not machines.is_asleep("a.up")
    assert caller(machines).get("/a.up/pool/health").json()["ready"] is True


def test_a_redeployed_agent_keeps_what_is_on_its_volume_and_nothing_else() -> None:
    """P15, P40."""
    machines = Machines()
    machines.start("a.up", ENVIRONMENT, "runtime:1")
    bound_to = caller(machines).post("/a.up/pool/provision", json=ALICE).json()["conversationId"]
    machines.start("a.up", {"GATEWAY_TOKEN": "new"}, "runtime:2")
    after = caller(machines, token="new").get("/a.up/convos/status").json()
    assert after["conversationId"] == bound_to
    machines.start("a.up", {"GATEWAY_TOKEN": "new"}, "runtime:2", volume=False)
    assert caller(machines, token="new").get("/a.up/convos/status").json()["clean"] is True


def test_a_crashed_agent_answers_what_the_edge_answers_for_it() -> None:
    agent = Agent(ENVIRONMENT, "runtime:1")
    agent.mode = Mode.CRASHED
    assert caller(agent).get("/pool/health").status_code == 502
