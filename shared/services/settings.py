"""The settings of the services side. Vendors' own settings stand with their plugin and with the hosting."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr

from shared.settings import SendableKey, Settings

_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,100}$")
OWN_VARIABLES = frozenset(
    {
        "INSTANCE_ID",
        "GATEWAY_TOKEN",
        "OPENCLAW_GATEWAY_TOKEN",
        "POOL_API_KEY",
        "SETUP_PASSWORD",
        "INSTANCE_SERVICES_TOKEN",
        "SERVICES_URL",
        "POOL_URL",
    }
)
"""What every instance has of its own; the shared variables may not claim these names."""


def _no_template_mistake(template: object) -> object:
    if isinstance(template, str) and "{domain}" not in template:
        raise ValueError("it must contain {domain}")
    return template


def _variables(text: object) -> object:
    if not isinstance(text, str):
        return text
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError:
        raise ValueError("it is not JSON") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("it must be an object whose values are texts")
    for name in found:
        if not _VARIABLE.match(name) or name in OWN_VARIABLES:
            raise ValueError(f"{name[:60]!r} cannot be a variable of all instances")
        if "${{" in found[name]:
            # The host would put another variable in its place; a deployment refuses it, after everything was bought (P18).
            raise ValueError(f"the value of {name!r} contains a reference of the host")
    return found


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name stands in it twice")
    return dict(pairs)


class CommonSettings(Settings):
    """What every function of the services side needs."""

    services_database_url: SecretStr = Field(description="the database of the services side")
    services_api_key: SendableKey = Field(description="the key with which the services side is called")
    instance_secrets_key: SecretStr = Field(
        description="the ring of keys that encrypts instances' secrets: id:base64(32 bytes), comma-separated, the first encrypts"
    )
    pool_environment: str = Field("local", min_length=1, max_length=64, description="which environment's names are ours")
    worker_lease_seconds: float = Field(
        240.0, gt=0, le=3600, description="how long one worker may be silent before another goes on; longer than any step"
    )


class ProvisionSettings(CommonSettings):
    """What the function of a plugin needs beside its vendor's settings."""

    sms_cooldown_days: float = Field(30.0, ge=0, le=3650, description="how long a released number rests in our stock")


class ServicesSettings(CommonSettings):
    """What the function `instances` needs beside the hosting's settings."""

    services_url: str = Field(
        pattern=r"^https?://\S+$", description="the address of the services side, for its functions and for instances"
    )
    pool_url: str = Field(pattern=r"^https?://\S+$", description="the address of the pool side, for instances' callbacks")
    instance_url_template: Annotated[str, BeforeValidator(_no_template_mistake)] = Field(
        "https://{domain}", pattern=r"^https?://\S+$", description="an instance's address, made from its {domain}"
    )
    instance_cpu: float = Field(4.0, gt=0, le=64, description="an instance's limit in vCPUs")
    instance_memory_gb: float = Field(8.0, gt=0, le=512, description="an instance's limit of memory in GB")
    runtime_variables: Annotated[dict[str, str], BeforeValidator(_variables)] = Field(
        default_factory=dict, description="variables that every instance gets, a JSON object"
    )
    railway_runtime_image: str = Field(min_length=1, pattern=r"^\S+$", description="the first desired image of new instances")
    railway_start_command: str = Field("", description="the start command of instances; empty: the image's own")
    health_timeout_seconds: float = Field(5.0, gt=0, le=60, description="how long a health check waits for an instance")
    health_concurrency: int = Field(40, ge=1, le=500, description="how many instances are asked at the same time")
    listing_share: float = Field(0.3, gt=0, le=1, description="which share of the host's hourly allowance listings may use")
    sweep_mode: Literal["report", "delete"] = Field(
        "report",
        description="whether a sweep only reports what no table knows (report), or ends it when it is confirmed (delete)",
    )
    sweep_grace_seconds: float = Field(
        3600.0, ge=0, le=2_592_000, description="how old something at a vendor must be before a sweep calls it an orphan"
    )
