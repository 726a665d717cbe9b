"""The life of a deployment in the Railway simulator. Time passes by being looked at: nothing here sleeps or ticks."""

from __future__ import annotations

import re

from infra.local.simulators.railway_state import Behaviour, Clock, Deployment, Machines, ServiceInstance, refused

UNDER_WAY = ("INITIALIZING", "DEPLOYING")
UP = ("SUCCESS", "SLEEPING")
OVER = ("REMOVED", "FAILED", "CRASHED", "SKIPPED")
_REFERENCE = re.compile(r"\$\{\{\s*(?:[\w-]+\.)?(\w+)\s*\}\}")


class Deployments:
    """Starts deployments and brings them up to date with the clock."""

    def __init__(self, *, clock: Clock, behaviour: Behaviour, machines: Machines) -> None:
        self._clock = clock
        self._behaviour = behaviour
        self._machines = machines
        self._under_way: list[Deployment] = []
        self._asleep: list[Deployment] = []
        self.by_id: dict[str, Deployment] = {}

    def start(self, instance: ServiceInstance, surroundings: dict[str, str], *, replay: Deployment | None = None) -> Deployment:
        """Start a deployment that sees the variables of this moment, or the image of *replay*."""
        now = self._clock.seconds()
        image = replay.image if replay is not None else instance.image
        if image is None:
            raise refused("Service has no source to deploy")
        own = {name: entry["value"] for name, entry in instance.config.get("variables", {}).items()}
        deployment = Deployment(
            instance=instance,
            image=image,
            variables=_expanded({**surroundings, **own}),
            config=instance.config,
            created_at=now,
            status_at=now,
        )
        instance.deployments.append(deployment)
        self._under_way.append(deployment)
        self.by_id[deployment.id] = deployment
        return deployment

    def settle(self) -> None:
        """Move every deployment under way to where it is by now, oldest first, and notice what a request woke."""
        now = self._clock.seconds()
        for deployment in list(self._under_way):
            age = now - deployment.created_at
            if age >= self._behaviour.boot_seconds:
                self.set_status(deployment, "SUCCESS" if self._can_be_pulled(deployment) else "FAILED")
            elif age >= self._behaviour.boot_seconds / 3:
                self.set_status(deployment, "DEPLOYING")
        for deployment in list(self._asleep):
            domains = deployment.instance.domains
            if domains and not self._machines.is_asleep(domains[0].domain):
                self.set_status(deployment, "SUCCESS")

    def set_status(self, deployment: Deployment, status: str) -> None:
        """Give a deployment a status, with what follows for its machine and for the deployment it replaces."""
        before = deployment.status
        if before == status:
            return
        deployment.status = status
        deployment.status_at = self._clock.seconds()
        if status not in UNDER_WAY:
            self._forget(deployment)
        if status == "SUCCESS" and before != "SLEEPING":
            self._replace_older(deployment)
            self.serve(deployment)
        elif status == "SLEEPING":
            self._asleep.append(deployment)
            for domain in deployment.instance.domains:
                self._machines.sleep(domain.domain)
        elif before in UP and status in OVER:
            self._stop(deployment.instance)

    def serve(self, deployment: Deployment) -> None:
        """Have the machine of a deployment that is up answer at the instance's domain, if it has one."""
        if deployment.instance.domains:
            domain = deployment.instance.domains[0].domain
            environment = {**deployment.variables, "RAILWAY_PUBLIC_DOMAIN": domain}
            volume = "RAILWAY_VOLUME_MOUNT_PATH" in deployment.variables
            self._machines.start(domain, environment, deployment.image, volume=volume)

    def end(self, instance: ServiceInstance) -> None:
        """Remove every deployment of an instance, and its machine."""
        for deployment in instance.deployments:
            self.set_status(deployment, "REMOVED")

    def _replace_older(self, deployment: Deployment) -> None:
        for older in deployment.instance.deployments:
            if older.order < deployment.order and older.status not in OVER:
                # Its machine is not stopped: the next one takes its place and its volume.
                older.status, older.status_at = "REMOVED", self._clock.seconds()
                self._forget(older)

    def _forget(self, deployment: Deployment) -> None:
        """Watch it no longer."""
        for watched in (self._under_way, self._asleep):
            if deployment in watched:
                watched.remove(deployment)

    def _stop(self, instance: ServiceInstance) -> None:
        for domain in instance.domains:
            self._machines.stop(domain.domain)

    def _can_be_pulled(self, deployment: Deployment) -> bool:
        if "missing" in deployment.image:
            return False
        known = self._behaviour.known_images
        if known is not None and deployment.image not in known:
            return False
        credentials = deployment.config.get("deploy", {}).get("registryCredentials")
        return credentials is not None or not deployment.image.startswith(self._behaviour.private_images or ("\0",))


def _expanded(variables: dict[str, str]) -> dict[str, str]:
    """Replace `${{NAME}}` and `${{Service.NAME}}` as Railway does, by what is known here, else by nothing."""
    return {
        name: _REFERENCE.sub(lambda match: variables.get(match[1], ""), value) if "${{" in value else value
        for name, value in variables.items()
    }
