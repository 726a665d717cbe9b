"""The only reader of the environment: settings models, and how they are filled.

A model's field `pool_min_idle` is read from `POOL_MIN_IDLE`; its description says what the variable is for and ends up in
the error when it is missing. Values that are empty count as absent. Each plugin and the hosting declare their own model in
their own file; what several functions share stands here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, ValidationError

from shared.errors import SettingsError

SomeSettings = TypeVar("SomeSettings", bound="Settings")


class Settings(BaseModel):
    """Base of all settings models: frozen, and silent about secrets."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


def load(model: type[SomeSettings], environment: Mapping[str, str] | None = None) -> SomeSettings:
    """Fill *model* from the environment, or raise SettingsError naming each variable at fault and its purpose."""
    values = os.environ if environment is None else environment
    found = {name: values[name.upper()] for name in model.model_fields if values.get(name.upper(), "").strip()}
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise SettingsError(_explain(model, error)) from None


def is_present(model: type[Settings], environment: Mapping[str, str] | None = None) -> bool:
    """Whether every required variable of *model* has a value: a capability without its key is not configured."""
    values = os.environ if environment is None else environment
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    return all(values.get(name.upper(), "").strip() for name in required)


def _explain(model: type[Settings], error: ValidationError) -> str:
    sentences = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        field = model.model_fields.get(name)
        purpose = f" ({field.description})" if field is not None and field.description else ""
        fault = "is not set" if problem["type"] == "missing" else "is malformed: " + problem["msg"].removeprefix("Value error, ")
        sentences.append(f"{name.upper()}{purpose} {fault}" if name else problem["msg"].removeprefix("Value error, "))
    return "; ".join(sentences) + "."


def separated(value: object) -> object:
    """Split a comma-separated variable into a tuple; a doubled entry is refused (for use in a `BeforeValidator`)."""
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if len(set(parts)) != len(parts):
        raise ValueError("an entry stands in it twice")
    return parts


def reveal(secret: SecretStr) -> str:
    """Return the text of a secret; every use of it in the tree is a call of this name."""
    return secret.get_secret_value()


def _sendable(key: SecretStr) -> SecretStr:
    text = reveal(key).strip()
    if not (text.isascii() and text.isprintable()):
        raise ValueError("it has a character that no HTTP header can carry")
    return SecretStr(text)


SendableKey = Annotated[SecretStr, AfterValidator(_sendable)]
"""A key that travels in a header: without the line break that a mounted file ends with, and fit for one (P18, P43)."""
