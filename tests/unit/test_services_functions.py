"""The functions of the services side: what each declares to need, and what each loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from infra import routes
from shared.services.hosting.images import GhcrSettings
from shared.services.hosting.railway import RailwaySettings
from shared.services.plugins import PLUGINS
from shared.services.settings import CommonSettings, ProvisionSettings, ServicesSettings
from shared.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = {function.name: function for function in routes.load().functions}


def variables(*models: type[Settings]) -> set[str]:
    return {name.upper() for model in models for name in model.model_fields}


def test_instances_declares_every_setting_that_it_reads() -> None:
    assert variables(ServicesSettings, RailwaySettings, GhcrSettings) == set(FUNCTIONS["instances"].variables)


@pytest.mark.parametrize("tool", PLUGINS)
def test_the_function_of_a_plugin_declares_every_setting_that_it_reads(tool: str) -> None:
    own = variables(ProvisionSettings if tool == "sms" else CommonSettings, PLUGINS[tool].kind.settings)
    assert own == set(FUNCTIONS[f"provision_{tool}"].variables)


def test_a_vendors_key_is_a_secret_of_one_function() -> None:
    """P42: who can buy numbers cannot read the keys of the host."""
    shared_by_all = {"SERVICES_DATABASE_URL", "SERVICES_API_KEY", "INSTANCE_SECRETS_KEY"}
    side = [function for function in FUNCTIONS.values() if function.side == "services" and function.name != "railway_webhook"]
    keys = [secret for function in side for secret in function.secrets if secret not in shared_by_all]
    assert sorted(keys) == sorted(set(keys))
    assert len(keys) == 6


@pytest.mark.parametrize("tool", PLUGINS)
def test_the_function_of_a_plugin_loads_neither_the_hosting_nor_another_plugin(tool: str) -> None:
    code = f"""
import sys
import functions.provision_{tool}.main
from shared.services.context import PLUGINS, provision_context
PLUGINS[{tool!r}].kind
files = {{one.file for one in PLUGINS.values() if one.tool != {tool!r}}}
homes = ('shared.services.plugins.', 'shared.services.hosting.')
loaded = {{name.rpartition('.')[2] for name in sys.modules if name.startswith(homes)}}
print(sorted(loaded & (files | {{'railway', 'topology', 'images'}})))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
