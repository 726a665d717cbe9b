"""The desired image and the digest that its tag stands for (P23)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.api.services import PutImage
from shared.services import image
from tests.integration.services.stage import IMAGE, REPOSITORY, Stage

PINNED = f"ghcr.io/{REPOSITORY}@"


def current(stage: Stage) -> str | None:
    """Return what `status/batch` reports, a lookup interval later."""
    stage.age(61)
    return stage.look().current_image


@pytest.mark.parametrize(
    ("reference", "digest", "expected"),
    [
        ("ghcr.io/org/agent:latest", "sha256:ab", "ghcr.io/org/agent@sha256:ab"),
        ("ghcr.io/org/agent", "sha256:ab", "ghcr.io/org/agent@sha256:ab"),
        ("ghcr.io/org/agent:latest", None, "ghcr.io/org/agent:latest"),
        ("ghcr.io/org/agent@sha256:cd", "sha256:ab", "ghcr.io/org/agent@sha256:cd"),
    ],
)
def test_a_tag_is_replaced_by_its_digest(reference: str, digest: str | None, expected: str) -> None:
    assert image.pinned_reference(reference, digest) == expected


def test_the_first_image_is_the_one_of_the_settings(stage: Stage) -> None:
    told = image.get_image(stage.context)

    assert (told.image, told.digest, told.pinned) == (IMAGE, None, IMAGE)


def test_the_very_first_digest_counts_at_once(stage: Stage) -> None:
    assert stage.look().current_image == PINNED + stage.digest
    assert image.get_image(stage.context).digest == stage.digest


def test_a_launch_is_pinned_even_before_anybody_asked_for_a_status(stage: Stage) -> None:
    assert image.image_to_launch(stage.context) == PINNED + stage.digest


def test_a_new_digest_counts_when_it_is_found_twice_in_a_row(stage: Stage) -> None:
    stage.look()
    moved = stage.ghcr.push(REPOSITORY, "latest")

    assert current(stage) == PINNED + stage.digest
    assert current(stage) == PINNED + moved


def test_a_digest_that_flickers_does_not_count(stage: Stage) -> None:
    stage.look()
    package = stage.ghcr.packages[REPOSITORY]
    other = stage.ghcr.push(REPOSITORY, "other")
    for found in (other, stage.digest, other, stage.digest):
        package.tags["latest"] = found
        assert current(stage) == PINNED + stage.digest


def test_a_failed_lookup_keeps_the_last_digest(stage: Stage) -> None:
    stage.look()
    stage.ghcr.push(REPOSITORY, "latest")
    stage.ghcr.fail("*", "refuse", status=500, times=None)

    for _ in range(3):
        assert current(stage) == PINNED + stage.digest


def test_the_registry_is_asked_once_a_minute_at_most(stage: Stage) -> None:
    stage.look()
    calls = len(stage.ghcr.calls)
    stage.look()
    stage.age(50)
    stage.look()
    assert len(stage.ghcr.calls) == calls

    stage.age(11)
    stage.look()
    assert len(stage.ghcr.calls) > calls


def test_a_registry_that_hangs_delays_a_look_by_its_deadline_and_a_launch_by_seconds(stage: Stage) -> None:
    """P23: the tag itself is launched then."""
    stage.ghcr.fail("*", "hang", seconds=4, times=None)
    began = time.monotonic()

    assert stage.look(deadline=0.5).current_image == IMAGE
    looked = time.monotonic()
    assert image.image_to_launch(stage.context) == IMAGE
    launched = time.monotonic()

    assert looked - began < 1.5
    assert launched - looked < 4
    stage.ghcr.heal()


def test_launches_at_once_before_anything_is_known_are_all_pinned(stage: Stage) -> None:
    """P10, P23: one that relied on another's lookup under way would launch the tag, and never be the current image."""
    with ThreadPoolExecutor(4) as threads:
        launched = set(threads.map(lambda _: image.image_to_launch(stage.context), range(4)))
    assert launched == {f"ghcr.io/{REPOSITORY}@{stage.digest}"}


def test_another_image_replaces_what_was_known_of_the_first(stage: Stage) -> None:
    stage.look()
    digest = stage.ghcr.push("convos/other", "v2")

    told = image.put_image(PutImage(image="ghcr.io/convos/other:v2"), stage.context)

    assert told.pinned == f"ghcr.io/convos/other@{digest}"
    assert image.image_to_launch(stage.context) == told.pinned
    assert stage.look().current_image == told.pinned


def test_another_image_is_taken_although_the_registry_does_not_answer(stage: Stage) -> None:
    stage.look()
    stage.ghcr.push("convos/other", "v2")
    stage.ghcr.fail("*", "refuse", status=500, times=1)

    told = image.put_image(PutImage(image="ghcr.io/convos/other:v2"), stage.context)

    assert (told.image, told.digest, told.pinned) == ("ghcr.io/convos/other:v2", None, "ghcr.io/convos/other:v2")


def test_the_same_image_again_does_not_lose_its_digest_to_an_outage(stage: Stage) -> None:
    stage.look()
    stage.ghcr.fail("*", "refuse", status=500, times=None)

    assert image.put_image(PutImage(image=IMAGE), stage.context).digest == stage.digest


def test_the_same_image_again_takes_a_new_digest_at_once(stage: Stage) -> None:
    stage.look()
    moved = stage.ghcr.push(REPOSITORY, "latest")

    assert image.put_image(PutImage(image=IMAGE), stage.context).digest == moved


def test_a_pinned_image_needs_no_lookup(stage: Stage) -> None:
    wanted = PINNED + "sha256:" + "0" * 64
    told = image.put_image(PutImage(image=wanted), stage.context)
    stage.age(61)

    assert (told.pinned, told.digest) == (wanted, "sha256:" + "0" * 64)
    assert stage.look().current_image == wanted
    assert stage.ghcr.calls == []


def test_an_image_of_a_registry_that_we_do_not_ask_is_launched_by_its_tag(stage: Stage) -> None:
    image.put_image(PutImage(image="docker.io/library/agent:1"), stage.context)

    assert image.image_to_launch(stage.context) == "docker.io/library/agent:1"
