"""What one deployment of an instance consists of: image, start command, limits and every variable it needs (P14, P40).

The first deployment and every later one are assembled here, so that an upgrade can lose nothing. The instance's own identity
wins over what its tools grant, and both win over the variables that all instances share.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from shared.services import image
from shared.services.context import Context
from shared.services.hosting.base import Launch
from shared.services.models import Instance
from shared.services.store import ledger


def launch_for(instance: Instance, context: Context, *, wanted_image: str | None = None) -> Launch:
    """Assemble the deployment of *instance*, with the desired image unless another one is wanted.

    Makes no remote call, but a short look into the registry while the desired image has no known digest (P23).
    """
    settings = context.settings
    return Launch(
        image=wanted_image or image.image_to_launch(context),
        start_command=settings.railway_start_command,
        variables=variables_of(instance, context),
        cpu=settings.instance_cpu,
        memory_gb=settings.instance_memory_gb,
    )


def variables_of(instance: Instance, context: Context) -> Mapping[str, SecretStr]:
    """Return the whole environment of *instance*: only secrets of its own, never a key of ours (P42)."""
    return {
        **{name: SecretStr(value) for name, value in context.settings.runtime_variables.items()},
        **ledger.granted_variables(context.db, context.ring, instance_id=instance.id),
        **_identity(instance, context),
    }


def _identity(instance: Instance, context: Context) -> dict[str, SecretStr]:
    """Older images read the gateway token under two more names, and compare callers with what stands there."""
    secrets = instance.secrets(context.ring)
    return {
        "INSTANCE_ID": SecretStr(instance.id),
        "GATEWAY_TOKEN": secrets.gateway_token,
        "OPENCLAW_GATEWAY_TOKEN": secrets.gateway_token,
        "POOL_API_KEY": secrets.gateway_token,
        "SETUP_PASSWORD": secrets.setup_password,
        "INSTANCE_SERVICES_TOKEN": secrets.services_token,
        "SERVICES_URL": SecretStr(context.settings.services_url),
        "POOL_URL": SecretStr(context.settings.pool_url),
    }
