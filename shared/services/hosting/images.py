"""From an image's tag to its digest, asked of GitHub's registry (P23). A digest is what gets deployed; tags move."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, model_validator

from shared.errors import RemoteError, RemoteRefusedError, RemoteUnavailableError
from shared.remote import NO_RETRY, Remote, Reply
from shared.settings import Settings, reveal

if TYPE_CHECKING:
    import httpx

REGISTRY_HOST = "ghcr.io"
"""The host that references name, wherever GHCR_URL leads."""
LONGEST_SECONDS = 3.0
"""For a whole lookup; what it cannot tell by then, the caller takes from the last one."""
_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
"""With the index types, without which a tag for several platforms is answered with 404."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class GhcrSettings(Settings):
    """Where image tags are looked up, and as whom."""

    ghcr_url: str = Field("https://ghcr.io", description="the address of the image registry")
    ghcr_username: str | None = Field(None, description="the GitHub user who may pull a private image")
    ghcr_token: SecretStr | None = Field(None, description="that user's classic token with read:packages")

    @model_validator(mode="after")
    def _both_or_neither(self) -> GhcrSettings:
        if bool(self.ghcr_username) != bool(self.ghcr_token):
            raise ValueError("GHCR_USERNAME and GHCR_TOKEN belong together; set both or neither")
        return self


@dataclass(frozen=True)
class Reference:
    """An image's name taken apart."""

    host: str
    repository: str
    tag: str
    digest: str | None


class _Token(BaseModel):
    token: SecretStr


class ImageRegistry:
    """Looks up digests. Safe to share between threads."""

    def __init__(
        self,
        settings: GhcrSettings,
        *,
        transport: httpx.BaseTransport | None = None,
        limit_seconds: float = LONGEST_SECONDS,
    ) -> None:
        """*limit_seconds* bounds one lookup with all its calls."""
        self._settings = settings
        self._limit_seconds = limit_seconds
        self._remote = Remote(REGISTRY_HOST, settings.ghcr_url, retry=NO_RETRY, transport=transport)
        self._tokens: dict[str, SecretStr] = {}

    def close(self) -> None:
        """Close idle connections; the object can not be used afterwards."""
        self._remote.close()

    def resolve(self, reference: str) -> str | None:
        """Return the digest (`sha256:…`) that *reference* means now, within the time limit or RemoteError.

        A pinned reference is answered without a call; None says that the image is in another registry, where we do not ask.
        """
        image = parse(reference)
        if image.digest is not None:
            return image.digest
        if image.host != REGISTRY_HOST:
            return None
        ends_at = time.monotonic() + self._limit_seconds
        reply = self._manifest(image, ends_at)
        if reply.status == 401:
            # No token yet, or one that ran out: its lifetime is not told, so a new one is fetched once.
            self._tokens[image.repository] = self._token(image.repository, reply, ends_at)
            reply = self._manifest(image, ends_at)
        if reply.status != 200:
            raise RemoteRefusedError(
                REGISTRY_HOST,
                "the lookup of a tag",
                "knows no such image, or does not show it to us",
                http_status=reply.status,
            )
        digest = reply.headers.get("docker-content-digest", "")
        if not _DIGEST.fullmatch(digest):
            raise RemoteError(REGISTRY_HOST, "the lookup of a tag", "gave no digest", http_status=reply.status)
        return digest

    def _manifest(self, image: Reference, ends_at: float) -> Reply:
        headers = {"Accept": _ACCEPT}
        token = self._tokens.get(image.repository)
        if token is not None:
            headers["Authorization"] = f"Bearer {reveal(token)}"
        return self._remote.send(
            "HEAD",
            f"/v2/{image.repository}/manifests/{image.tag}",
            during="the lookup of a tag",
            headers=headers,
            timeout_seconds=_left(ends_at),
            accept=(401, 403, 404),
        )

    def _token(self, repository: str, challenge: Reply, ends_at: float) -> SecretStr:
        scheme, _, text = challenge.headers.get("www-authenticate", "").partition(" ")
        asked = dict(_PARAMETER.findall(text))
        realm = asked.get("realm", "")
        if scheme.lower() != "bearer" or _origin(realm) != _origin(self._settings.ghcr_url):
            # Whoever answers for the registry must not make us send the credential elsewhere.
            raise RemoteRefusedError(REGISTRY_HOST, "the lookup of a tag", "asked for a login that we do not give")
        reply = self._remote.send(
            "GET",
            realm,
            during="the login for a lookup",
            params={"service": asked.get("service", ""), "scope": f"repository:{repository}:pull"},
            headers=self._credential(),
            timeout_seconds=_left(ends_at),
        )
        return reply.parse(_Token).token

    def _credential(self) -> dict[str, str]:
        username, token = self._settings.ghcr_username, self._settings.ghcr_token
        if not username or token is None:
            return {}
        pair = f"{username}:{reveal(token)}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def parse(reference: str) -> Reference:
    """Take a reference apart: `host/owner/name:tag@digest`, the tag `latest` where none is named, repositories in lower case."""
    name, _, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    has_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    host, path = (first.lower(), rest) if has_host else ("docker.io", name)
    repository, _, tag = path.partition(":")
    return Reference(host=host, repository=repository.lower(), tag=tag or "latest", digest=digest or None)


def pinned(reference: str, digest: str) -> str:
    """Return the reference that means this digest for ever: `host/owner/name@sha256:…`."""
    image = parse(reference)
    return f"{image.host}/{image.repository}@{digest}"


def _left(ends_at: float) -> float:
    left = ends_at - time.monotonic()
    if left <= 0:
        raise RemoteUnavailableError(REGISTRY_HOST, "the lookup of a tag", "did not answer in time")
    return left


def _origin(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port
