"""A tag becomes a digest through the registry's login, within its time, and the credential goes nowhere else."""

from __future__ import annotations

import threading
import time
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest

from infra.local.simulators.ghcr import PASSWORD, USERNAME, GhcrSimulator
from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError, SettingsError
from shared.services.hosting import images
from shared.services.hosting.images import GhcrSettings, ImageRegistry, parse, pinned
from shared.settings import load

REFERENCE = "ghcr.io/convos/agent:main"
DIGEST = "sha256:" + "a" * 64
LOGIN = {"GHCR_USERNAME": USERNAME, "GHCR_TOKEN": PASSWORD}


def registry(simulator: GhcrSimulator, **environment: str) -> ImageRegistry:
    settings = load(GhcrSettings, {"GHCR_URL": "http://registry", **environment})
    return ImageRegistry(settings, transport=httpx.WSGITransport(simulator))


def test_a_tag_is_resolved_to_the_digest_it_has_now() -> None:
    """P23: a tag moves, and the lookup follows it."""
    simulator = GhcrSimulator()
    looking = registry(simulator)
    first = simulator.push("convos/agent", "main")
    assert looking.resolve(REFERENCE) == first
    second = simulator.push("convos/agent", "main")
    assert second != first
    assert looking.resolve(REFERENCE) == second


def test_a_token_is_used_until_it_ends_and_then_fetched_once() -> None:
    simulator = GhcrSimulator()
    looking = registry(simulator)
    simulator.push("convos/agent", "main")
    for _ in range(2):
        looking.resolve(REFERENCE)
    assert simulator.operations() == ["manifest", "token", "manifest", "manifest"]
    simulator.expire_tokens()
    looking.resolve(REFERENCE)
    assert simulator.operations()[4:] == ["manifest", "token", "manifest"]


def test_a_private_image_is_shown_to_who_logs_in() -> None:
    simulator = GhcrSimulator()
    digest = simulator.push("convos/agent", "main")
    simulator.make_private("convos/agent")
    with pytest.raises(RemoteRefusedError):
        registry(simulator).resolve(REFERENCE)
    assert registry(simulator, **LOGIN).resolve(REFERENCE) == digest


def test_a_pinned_reference_is_answered_without_a_call() -> None:
    simulator = GhcrSimulator()
    assert registry(simulator).resolve(f"ghcr.io/convos/agent@{DIGEST}") == DIGEST
    assert registry(simulator).resolve(f"docker.io/library/nginx@{DIGEST}") == DIGEST
    assert simulator.operations() == []


@pytest.mark.parametrize("reference", ["nginx", "nginx:1", "library/nginx:1", "registry.example/a/b:1", "localhost:5000/a/b:1"])
def test_an_image_of_another_registry_is_not_looked_up(reference: str) -> None:
    simulator = GhcrSimulator()
    assert registry(simulator).resolve(reference) is None
    assert simulator.operations() == []


def test_a_missing_tag_is_an_error() -> None:
    simulator = GhcrSimulator()
    simulator.push("convos/agent", "main")
    with pytest.raises(RemoteRefusedError) as missing:
        registry(simulator).resolve("ghcr.io/convos/agent:other")
    assert missing.value.http_status == 404


def test_a_registry_that_fails_is_unavailable() -> None:
    simulator = GhcrSimulator()
    simulator.fail("*", "refuse", status=503)
    with pytest.raises(RemoteUnavailableError):
        registry(simulator).resolve(REFERENCE)


def test_an_answer_without_a_digest_is_an_error() -> None:
    """P38."""
    simulator = GhcrSimulator()
    simulator.push("convos/agent", "main")
    simulator.fail("manifest", "refuse", status=200, skip=1, body="<html>ok</html>")
    with pytest.raises(RemoteError):
        registry(simulator).resolve(REFERENCE)


def test_the_credential_goes_only_to_the_registry_itself() -> None:
    """P43: whoever answers in the registry's place must not get the token sent elsewhere."""
    simulator = GhcrSimulator()
    simulator.push("convos/agent", "main")
    for realm in (
        "http://thief.example/token",
        "https://registry/token",
        "http://registry:81/token",
        "http://registry.example/token",
    ):
        simulator.realm = realm
        with pytest.raises(RemoteRefusedError):
            registry(simulator, **LOGIN).resolve(REFERENCE)
    assert "token" not in simulator.operations()


def test_half_a_credential_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="GHCR_USERNAME and GHCR_TOKEN"):
        load(GhcrSettings, {"GHCR_USERNAME": "octocat"})


def test_the_credential_shows_nowhere() -> None:
    assert PASSWORD not in repr(load(GhcrSettings, LOGIN))


@pytest.mark.parametrize(
    ("reference", "host", "repository", "tag"),
    [
        ("ghcr.io/Convos/Agent:V1", "ghcr.io", "convos/agent", "V1"),
        ("ghcr.io/convos/agent", "ghcr.io", "convos/agent", "latest"),
        (f"ghcr.io/convos/agent:main@{DIGEST}", "ghcr.io", "convos/agent", "main"),
        ("localhost:5000/a/b", "localhost:5000", "a/b", "latest"),
        ("nginx:1.27", "docker.io", "nginx", "1.27"),
    ],
)
def test_references_are_taken_apart(reference: str, host: str, repository: str, tag: str) -> None:
    image = parse(reference)
    assert (image.host, image.repository, image.tag) == (host, repository, tag)


def test_pinning_replaces_the_tag_by_the_digest() -> None:
    assert pinned("ghcr.io/Convos/agent:main", DIGEST) == f"ghcr.io/convos/agent@{DIGEST}"
    assert parse(pinned(f"ghcr.io/convos/agent:main@{DIGEST}", DIGEST)).digest == DIGEST


def test_the_limit_counts_for_the_whole_lookup_and_is_a_few_seconds() -> None:
    """P23: each of the three calls would fit into the limit alone, and all of them do not."""
    assert images.LONGEST_SECONDS <= 3
    simulator = GhcrSimulator(latency_seconds=0.2)
    simulator.push("convos/agent", "main")
    server = make_server("127.0.0.1", 0, simulator, server_class=_Server, handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    looking = ImageRegistry(load(GhcrSettings, {"GHCR_URL": f"http://127.0.0.1:{server.server_port}"}), limit_seconds=0.45)
    began = time.monotonic()
    try:
        with pytest.raises(RemoteUnavailableError):
            looking.resolve(REFERENCE)
        assert time.monotonic() - began < 0.58
    finally:
        looking.close()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(WSGIServer):
    """Does not complain of a caller who left."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Quiet(WSGIRequestHandler):
    """Writes nothing."""

    def log_message(self, *_: object) -> None:
        pass
