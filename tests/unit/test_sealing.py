"""Secrets at rest: bound to their place, readable by every key of the ring, and never printed."""

from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr

from shared.errors import AppError, SettingsError
from shared.services.sealing import SETTING, Ring, parse_ring
from shared.settings import reveal

OLD = "old:" + base64.b64encode(b"o" * 32).decode()
NEW = "new:" + base64.b64encode(b"n" * 32).decode()
PLACE = {"instance_id": "i1", "column": "gateway_token"}


def ring(*entries: str) -> Ring:
    return parse_ring(SecretStr(",".join(entries)))


def test_what_was_sealed_can_be_read_again() -> None:
    sealed = ring(NEW).seal(SecretStr("täglich geheim"), **PLACE)
    assert reveal(ring(NEW).unseal(sealed, **PLACE)) == "täglich geheim"
    assert sealed.startswith("v1.new.")
    assert "geheim" not in sealed


def test_the_same_secret_is_never_sealed_to_the_same_text() -> None:
    keys = ring(NEW)
    assert keys.seal(SecretStr("x"), **PLACE) != keys.seal(SecretStr("x"), **PLACE)


def test_a_rotated_ring_reads_old_texts_and_seals_with_the_first_key() -> None:
    old = ring(OLD).seal(SecretStr("x"), **PLACE)
    rotated = ring(NEW, OLD)
    assert reveal(rotated.unseal(old, **PLACE)) == "x"
    assert rotated.needs_reseal(old)
    assert not rotated.needs_reseal(rotated.seal(SecretStr("x"), **PLACE))


def test_a_text_whose_key_left_the_ring_names_the_setting() -> None:
    sealed = ring(OLD).seal(SecretStr("x"), **PLACE)
    with pytest.raises(SettingsError, match=f"{SETTING} lacks the key 'old'"):
        ring(NEW).unseal(sealed, **PLACE)


@pytest.mark.parametrize("elsewhere", [{**PLACE, "instance_id": "i2"}, {**PLACE, "column": "setup_password"}])
def test_a_text_copied_to_another_instance_or_column_cannot_be_read(elsewhere: dict[str, str]) -> None:
    sealed = ring(NEW).seal(SecretStr("x"), **PLACE)
    with pytest.raises(AppError, match="altered or moved"):
        ring(NEW).unseal(sealed, **elsewhere)


@pytest.mark.parametrize("damage", [lambda text: text[:-6] + "AAAAAA", lambda text: "v1.new.AAAA", lambda text: "v1.new.!"])
def test_a_damaged_text_is_an_error_of_ours(damage: object) -> None:
    sealed = ring(NEW).seal(SecretStr("x"), **PLACE)
    assert callable(damage)
    with pytest.raises(AppError):
        ring(NEW).unseal(damage(sealed), **PLACE)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "holds no key"),
        ("justakey", "an id, a colon"),
        ("a:", "an id, a colon"),
        ("a:not base64!", "not base64"),
        ("a:" + base64.b64encode(b"short").decode(), "5 bytes instead of 32"),
        (f"{NEW},{NEW}", "'new' twice"),
        (f"{NEW},{NEW.replace('new', 'again')}", "same key under two ids"),
    ],
)
def test_a_malformed_ring_names_its_setting_and_shows_no_key(text: str, fault: str) -> None:
    """A doubled or malformed setting stops the function, by name."""
    with pytest.raises(SettingsError, match=fault) as caught:
        parse_ring(SecretStr(text))
    assert SETTING in str(caught.value)
    assert "bm5ubm5u" not in str(caught.value)


def test_a_ring_prints_only_the_ids_of_its_keys() -> None:
    """P43."""
    assert repr(ring(NEW, OLD)) == "Ring(new, old)"
