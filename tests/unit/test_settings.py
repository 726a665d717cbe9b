"""Settings: what is missing or malformed is named with its purpose, and never with its value."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from flask import Flask
from pydantic import BeforeValidator, Field, SecretStr

from shared import web
from shared.errors import SettingsError
from shared.pool.settings import PoolSettings
from shared.settings import Settings, is_present, load, reveal, separated

GOOD = {
    "POOL_DATABASE_URL": "postgresql://u:p@h/d",
    "POOL_API_KEY": "pool-key",
    "SERVICES_URL": "http://services",
    "SERVICES_API_KEY": "services-key",
}


class Sample(Settings):
    """Settings of this test."""

    sample_key: SecretStr = Field(description="the key of the sample vendor")
    sample_tokens: Annotated[tuple[str, ...], BeforeValidator(separated)] = ()
    sample_limit: int = Field(3, ge=1, description="how many")


def test_values_come_from_variables_of_the_same_name() -> None:
    found = load(Sample, {"SAMPLE_KEY": "k", "SAMPLE_TOKENS": "a, b", "SAMPLE_LIMIT": "7", "OTHER": "x"})
    assert (reveal(found.sample_key), found.sample_tokens, found.sample_limit) == ("k", ("a", "b"), 7)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_one_is_named_with_its_purpose(value: str | None) -> None:
    given = {} if value is None else {"SAMPLE_KEY": value}
    with pytest.raises(SettingsError, match=r"SAMPLE_KEY \(the key of the sample vendor\) is not set"):
        load(Sample, given)
    assert not is_present(Sample, given)


def test_a_malformed_one_is_named_without_its_value() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Sample, {"SAMPLE_KEY": "k", "SAMPLE_LIMIT": "zero-secret"})
    assert "SAMPLE_LIMIT (how many) is malformed" in caught.value.message
    assert "zero-secret" not in caught.value.message


def test_a_doubled_entry_is_refused() -> None:
    with pytest.raises(SettingsError, match="SAMPLE_TOKENS is malformed: an entry stands in it twice"):
        load(Sample, {"SAMPLE_KEY": "k", "SAMPLE_TOKENS": "a,b,a"})


def test_secrets_do_not_print() -> None:
    """P43."""
    assert "hidden" not in repr(load(Sample, {"SAMPLE_KEY": "hidden"}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"SERVICES_API_KEY": "pool-key"}, "must not be the same value"),
        ({"CLAIM_LEASE_SECONDS": "60"}, "CLAIM_LEASE_SECONDS must be at least 70"),
        ({"POOL_ENVIRONMENT": "Produktion!"}, "POOL_ENVIRONMENT"),
        ({"SERVICES_URL": "services"}, "SERVICES_URL"),
        ({"POOL_LOSS_LIMIT": "25"}, "POOL_LOSS_LIMIT"),
    ],
)
def test_the_pools_settings_are_checked_together(change: dict[str, str], sentence: str) -> None:
    assert load(PoolSettings, GOOD).pool_min_idle == 3
    with pytest.raises(SettingsError, match=sentence):
        load(PoolSettings, {**GOOD, **change})


def test_a_function_without_a_setting_says_which_one_at_each_request(capsys: pytest.CaptureFixture[str]) -> None:
    """P18: not at import, which would keep it from starting, but before anything is done."""

    def build() -> Any:
        return load(Sample, {})

    route: web.Route[Any] = web.Route("GET /thing", lambda call, context: {"never": "reached"}, web.anyone)
    function = web.function((route,), name="sample", context=build)
    app = Flask(__name__)
    for _ in range(2):
        with app.test_request_context("/thing") as request:
            answer = function(request.request)
        assert answer.status_code == 500
        error = json.loads(answer.get_data())["error"]
        assert error["code"] == "settings"
        assert "SAMPLE_KEY (the key of the sample vendor) is not set" in error["message"]
    assert "SAMPLE_KEY" in capsys.readouterr().err
