"""The client of the runtime: three-way health, validated answers, and certainty only where there is some."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from pydantic import SecretStr
from werkzeug.serving import make_server

from infra.runtime.agent import Agent, Mode
from infra.runtime.machines import Machines
from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.services.runtime import Provision, ProvisionStatus, RuntimeClient, Verdict

TOKEN = SecretStr("instance-token")
ENVIRONMENT = {"GATEWAY_TOKEN": "instance-token", "POOL_API_KEY": "instance-token"}
URL = "http://machines/a.up"
BODY = Provision("Assistant", "Help Alice.", join_url="https://x/i/1", variables={"MAIL_KEY": SecretStr("mail-key")})


class Scene:
    """One instance at `URL`, and a client that reaches it in process."""

    def __init__(self, image: str = "runtime:1") -> None:
        self.machines = Machines()
        self.agent = self.machines.start("a.up", ENVIRONMENT, image)
        self.client = RuntimeClient(transport=httpx.WSGITransport(self.machines))

    def provision(self, body: Provision = BODY) -> object:
        return self.client.provision(URL, TOKEN, body=body, timeout_seconds=5)


@pytest.fixture
def scene() -> Iterator[Scene]:
    it = Scene()
    yield it
    it.client.close()


def answering(content: str | bytes, *, status: int = 200) -> RuntimeClient:
    return RuntimeClient(transport=httpx.MockTransport(lambda _: httpx.Response(status, content=content)))


@contextmanager
def serving(app: Agent | Machines) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- health


def test_a_ready_runtime_tells_its_version_and_capabilities(scene: Scene) -> None:
    health = scene.client.health(URL, TOKEN)
    assert (health.verdict, health.version, health.capabilities) == (Verdict.READY, "1", frozenset({"variables"}))
    assert health.reason == ""


def test_an_old_image_is_ready_without_capabilities() -> None:
    health = Scene("runtime:old").client.health(URL, TOKEN)
    assert (health.verdict, health.version, health.capabilities) == (Verdict.READY, None, frozenset())


@pytest.mark.parametrize("mode", [Mode.NOT_READY, Mode.READY_FALSE, Mode.HTML])
def test_only_an_answer_that_says_ready_is_ready(scene: Scene, mode: Mode) -> None:
    """P38: `{"ready": false}`, a 503 and an HTML page are all not ready, and none of them raises."""
    scene.agent.mode = mode
    health = scene.client.health(URL, TOKEN)
    assert health.verdict is Verdict.NOT_READY
    assert health.reason.endswith(".")


@pytest.mark.parametrize("body", ["", "null", "[]", "{}", '{"ready": "true"}', '{"ready": 1}', "\x00", "{" * 5000])
def test_an_unreadable_body_is_not_ready(body: str) -> None:
    """P38."""
    assert answering(body).health(URL, TOKEN).verdict is Verdict.NOT_READY


def test_a_wrong_token_is_not_ready(scene: Scene) -> None:
    assert scene.client.health(URL, SecretStr("another")).verdict is Verdict.NOT_READY


@pytest.mark.parametrize("status", [502, 504])
def test_an_edge_without_an_answer_from_inside_is_unreachable(status: int) -> None:
    assert answering("<html>", status=status).health(URL, TOKEN).verdict is Verdict.UNREACHABLE


def test_a_sleeping_instance_is_unreachable_once(scene: Scene) -> None:
    """P32."""
    scene.machines.sleep("a.up")
    assert [scene.client.health(URL, TOKEN).verdict for _ in range(2)] == [Verdict.UNREACHABLE, Verdict.READY]


def test_a_domain_nobody_lives_at_is_unreachable(scene: Scene) -> None:
    scene.machines.stop("a.up")
    assert scene.client.health(URL, TOKEN).verdict is Verdict.UNREACHABLE


@pytest.mark.parametrize("url", ["a.up", "", "ftp://a.up", "http://[", "http://a b"])
def test_an_address_that_cannot_be_read_is_unreachable(scene: Scene, url: str) -> None:
    assert scene.client.health(url, TOKEN).verdict is Verdict.UNREACHABLE


def test_a_closed_port_is_unreachable() -> None:
    assert RuntimeClient().health(f"http://127.0.0.1:{free_port()}", TOKEN).verdict is Verdict.UNREACHABLE


def test_a_body_that_trickles_in_does_not_outlive_the_limit() -> None:
    """P36: the limit is for the whole check, not for each byte."""

    def trickle(environ: object, start_response: object) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])  # type: ignore[operator]
        for _ in range(100):
            yield b" "
            time.sleep(0.05)

    with serving(trickle) as url:  # type: ignore[arg-type]
        started = time.monotonic()
        health = RuntimeClient(health_timeout_seconds=0.3).health(url, TOKEN)
    assert health.verdict is Verdict.UNREACHABLE
    assert time.monotonic() - started < 2


def test_an_answer_without_end_is_cut_off() -> None:
    assert answering(b" " * 1_000_000).health(URL, TOKEN).verdict is Verdict.NOT_READY


# --- provision


def test_an_introduction_arrives_as_it_was_meant(scene: Scene) -> None:
    body = Provision("Ada", "Be kind.", metadata={"a": 1}, model="m/1", variables={"K": SecretStr("v")})
    answer = scene.client.provision(URL, TOKEN, body=body, timeout_seconds=5)
    assert (answer.status, answer.joined) == (ProvisionStatus.CREATED, False)
    assert answer.invite_url
    assert answer.conversation_id
    [told] = scene.agent.heard
    assert (told.agent_name, told.instructions, told.model) == ("Ada", "Be kind.", "m/1")
    assert (told.metadata, told.variables) == ({"a": 1}, {"K": "v"})


def test_an_invite_is_joined(scene: Scene) -> None:
    answer = scene.client.provision(URL, TOKEN, body=BODY, timeout_seconds=5)
    assert (answer.status, answer.joined, answer.invite_url) == (ProvisionStatus.JOINED, True, None)


def test_a_pending_acceptance_has_no_conversation_yet(scene: Scene) -> None:
    """P7."""
    answer = scene.client.provision(URL, TOKEN, body=Provision("A", "B", join_url="https://x/pending"), timeout_seconds=5)
    assert (answer.status, answer.conversation_id) == (ProvisionStatus.PENDING_ACCEPTANCE, None)


@pytest.mark.parametrize(("join_url", "status"), [(None, ProvisionStatus.CREATED), ("https://x/1", ProvisionStatus.JOINED)])
def test_an_old_images_answer_without_status_is_understood(join_url: str | None, status: ProvisionStatus) -> None:
    body = Provision("A", "B", join_url=join_url)
    assert Scene("runtime:old").client.provision(URL, TOKEN, body=body, timeout_seconds=5).status is status


GOOD = {"ok": True, "inviteUrl": None, "conversationId": "c", "joined": True, "status": "joined"}


@pytest.mark.parametrize(
    "change",
    [
        {"ok": False},
        {"ok": "yes"},
        {"conversationId": None},
        {"conversationId": ""},
        {"conversationId": 5},
        {"joined": None},
        {"status": "celebrated"},
        {"status": None, "conversationId": None, "joined": False},
    ],
)
def test_a_200_of_another_shape_is_an_error(change: dict[str, object]) -> None:
    """P38, P7: a conversation without an id was neither joined nor created."""
    with pytest.raises(RemoteError) as caught:
        answering(json.dumps({**GOOD, **change})).provision(URL, TOKEN, body=BODY, timeout_seconds=5)
    assert not caught.value.never_sent


@pytest.mark.parametrize("missing", ["ok", "inviteUrl", "conversationId", "joined"])
def test_a_200_with_a_field_missing_is_an_error(missing: str) -> None:
    """P38."""
    body = json.dumps({name: value for name, value in GOOD.items() if name != missing})
    with pytest.raises(RemoteError):
        answering(body).provision(URL, TOKEN, body=BODY, timeout_seconds=5)


def test_a_bound_agent_is_recognised(scene: Scene) -> None:
    scene.provision()
    with pytest.raises(RemoteRefusedError) as caught:
        scene.provision()
    assert (caught.value.http_status, caught.value.code) == (409, "already_bound")


def test_a_broken_image_fails_every_introduction() -> None:
    with pytest.raises(RemoteUnavailableError) as caught:
        Scene("broken-provision:1").provision()
    assert (caught.value.http_status, caught.value.never_sent) == (500, False)


def test_a_lost_answer_may_have_happened(scene: Scene) -> None:
    """P4: and it is sent once only."""
    scene.agent.fail("provision", "lose")
    with pytest.raises(RemoteUnavailableError) as caught:
        scene.provision()
    assert not caught.value.never_sent
    assert len(scene.agent.heard) == 1


def test_a_closed_port_certainly_received_nothing() -> None:
    client = RuntimeClient()
    with pytest.raises(RemoteUnavailableError) as caught:
        client.provision(f"http://127.0.0.1:{free_port()}", TOKEN, body=BODY, timeout_seconds=2)
    assert caught.value.never_sent


def test_an_address_without_a_scheme_is_never_called(scene: Scene) -> None:
    with pytest.raises(RemoteRefusedError) as caught:
        scene.client.provision("a.up", TOKEN, body=BODY, timeout_seconds=2)
    assert caught.value.never_sent


def test_a_redirect_does_not_carry_the_instructions_elsewhere() -> None:
    seen = []

    def redirect(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        return httpx.Response(307, headers={"Location": "https://elsewhere.example/"})

    with pytest.raises(RemoteRefusedError):
        RuntimeClient(transport=httpx.MockTransport(redirect)).provision(URL, TOKEN, body=BODY, timeout_seconds=2)
    assert seen == ["machines"]


# --- status, reset, restart


def test_status_proves_clean_before_and_after_but_not_between(scene: Scene) -> None:
    """P3."""
    seen = []
    for act in (lambda: None, scene.provision, lambda: scene.client.reset(URL, TOKEN)):
        act()
        status = scene.client.status(URL, TOKEN)
        assert status is not None
        seen.append((status.clean, status.conversation_id is not None))
    assert seen == [(True, False), (False, True), (True, False)]


def test_a_restart_brings_variables(scene: Scene) -> None:
    assert scene.client.restart(URL, TOKEN, {"MODEL": SecretStr("m")}) is True
    assert scene.agent.environment["MODEL"] == "m"


def test_an_old_image_cannot_tell_nor_reset_nor_restart() -> None:
    client = Scene("runtime:old").client
    assert client.status(URL, TOKEN) is None
    assert client.reset(URL, TOKEN) is None
    assert client.restart(URL, TOKEN, {}) is None


def test_an_address_nobody_lives_at_is_not_taken_for_an_old_image(scene: Scene) -> None:
    """P33: the edge's 404 is an outage, not an answer."""
    scene.machines.stop("a.up")
    for call in (scene.client.status, scene.client.reset):
        with pytest.raises(RemoteUnavailableError):
            call(URL, TOKEN)


@pytest.mark.parametrize("body", ["<html>", "{}", '{"clean": true}', '{"clean": 1, "pending": false, "conversationId": null}'])
def test_a_status_that_cannot_be_read_proves_nothing(body: str) -> None:
    """P38, P3."""
    with pytest.raises(RemoteError):
        answering(body).status(URL, TOKEN)


def test_a_reset_that_did_not_work_is_told() -> None:
    assert answering('{"ok": false}').reset(URL, TOKEN) is False


# --- secrets and threads


def test_neither_tokens_nor_instructions_print(
    scene: Scene, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """P43: with every library logging all it can."""
    caplog.set_level(logging.DEBUG)
    answer = scene.client.provision(URL, TOKEN, body=BODY, timeout_seconds=5)
    scene.agent.fail("provision", "refuse", status=500, body={"error": "Help Alice."})
    with pytest.raises(RemoteError) as caught:
        scene.provision()
    assert scene.client.status(URL, TOKEN) is not None
    shown = "".join([repr(BODY), repr(answer), str(answer), repr(scene.client.status(URL, TOKEN)), str(caught.value)])
    shown += caplog.text + "".join(capsys.readouterr())
    for secret in ("instance-token", "Help Alice", "mail-key", "x/i/1", str(answer.conversation_id)):
        assert secret not in shown


def test_forty_threads_share_one_client_over_a_real_port() -> None:
    """P1: each caller's words reach its own instance and no other."""
    machines = Machines(provision_seconds=0.02)
    client = RuntimeClient(health_timeout_seconds=5)
    tokens = {f"d{number}.up": f"token-{number}" for number in range(40)}
    for domain, token in tokens.items():
        machines.start(domain, {"GATEWAY_TOKEN": token}, "runtime:1")

    with serving(machines) as base, ThreadPoolExecutor(40) as threads:

        def introduce(domain: str) -> tuple[Verdict, ProvisionStatus]:
            url, token = f"{base}/{domain}", SecretStr(tokens[domain])
            verdict = client.health(url, token).verdict
            body = Provision(domain, f"Serve {domain}.")
            return verdict, client.provision(url, token, body=body, timeout_seconds=10).status

        results = list(threads.map(introduce, tokens))
        client.close()

    assert results == [(Verdict.READY, ProvisionStatus.CREATED)] * 40
    for domain in tokens:
        assert [told.instructions for told in machines.agent(domain).heard] == [f"Serve {domain}."]


def test_a_hanging_runtime_is_given_up_in_time_over_a_real_port() -> None:
    """P4: not known to be unsent; the agent may have been told."""
    agent = Agent(ENVIRONMENT, "runtime:1", provision_seconds=0.6)
    with serving(agent) as url:
        started = time.monotonic()
        with pytest.raises(RemoteUnavailableError) as caught:
            RuntimeClient().provision(url, TOKEN, body=BODY, timeout_seconds=0.2)
        assert time.monotonic() - started < 0.55
    assert not caught.value.never_sent
    assert len(agent.heard) == 1


def test_a_dropped_connection_over_a_real_port_may_have_happened() -> None:
    """P4."""
    agent = Agent(ENVIRONMENT, "runtime:1", late_seconds=0)
    with serving(agent) as url:
        client = RuntimeClient()
        with pytest.raises(RemoteUnavailableError) as caught:
            client.provision(url, TOKEN, body=BODY, timeout_seconds=5)
        status = client.status(url, TOKEN)
    assert not caught.value.never_sent
    assert status is not None
    assert status.conversation_id is not None
