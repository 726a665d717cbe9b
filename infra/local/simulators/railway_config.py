"""The shape of a patch (`EnvironmentConfig`) in the Railway simulator.

The schema leaves this document opaque. What stands here is what Railway's own clients send; a key that is not in it is refused,
so that a misspelt one does not pass in tests only to be ignored by the real service.
"""

from __future__ import annotations

from typing import Any

from infra.local.simulators.railway_state import refused

_DEPLOY = {
    "startCommand": str,
    "preDeployCommand": list,
    "healthcheckPath": str,
    "healthcheckTimeout": int,
    "numReplicas": int,
    "multiRegionConfig": dict,
    "cronSchedule": str,
    "restartPolicyType": str,
    "restartPolicyMaxRetries": int,
    "sleepApplication": bool,
    "registryCredentials": {"username": str, "password": str},
    "limitOverride": {"containers": {"cpu": (int, float), "memoryBytes": int, "diskBytes": int}},
    "overlapSeconds": int,
    "drainingSeconds": int,
    "requiredMountPath": str,
    "ipv6EgressEnabled": bool,
}
_SOURCE = {"image": str, "repo": str, "branch": str, "commitSha": str, "rootDirectory": str, "autoUpdates": dict}
_SERVICE = {"source": _SOURCE, "deploy": _DEPLOY, "variables": dict, "build": dict, "networking": dict, "volumeMounts": dict}
_VARIABLE = {"value": str, "isSealed": bool}


def check_patch(patch: Any) -> dict[str, dict[str, Any]]:
    """Return the services of a patch by id, or refuse what is not of its shape."""
    _check(patch, {"services": dict, "sharedVariables": dict}, "patch")
    services: dict[str, dict[str, Any]] = patch.get("services", {})
    for service_id, service in services.items():
        _check(service, _SERVICE, f"services.{service_id}")
        for name, variable in service.get("variables", {}).items():
            if variable is not None:
                _check(variable, _VARIABLE, f"variables.{name}")
    return services


def _check(value: Any, shape: dict[str, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise refused(f"{where} must be an object", "BAD_USER_INPUT")
    for key, item in value.items():
        expected = shape.get(key)
        if expected is None:
            raise refused(f"{where}.{key} is not known", "BAD_USER_INPUT")
        if item is None:
            continue
        if isinstance(expected, dict):
            _check(item, expected, f"{where}.{key}")
        elif not isinstance(item, expected) or (isinstance(item, bool) and expected is not bool):
            raise refused(f"{where}.{key} has the wrong type", "BAD_USER_INPUT")
