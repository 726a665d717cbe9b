"""GitHub's container registry: the dance for a token, and the digest behind a tag.

Packages are public unless made private; a private one and one that does not exist look alike, as on the real registry.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from werkzeug.wrappers import Request, Response

from infra.local.simulators.base import Simulator, answer

INDEX = "application/vnd.oci.image.index.v1+json"
USERNAME = "octocat"
PASSWORD = "ghcr-token"


@dataclass
class Package:
    """One repository of images: what each tag and each digest holds."""

    private: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)


class GhcrSimulator(Simulator):
    """A registry of packages that `push` fills."""

    name = "ghcr"
    routes = (
        ("GET", "/token", "token"),
        ("GET", "/v2/<path:repository>/manifests/<reference>", "manifest"),
        ("HEAD", "/v2/<path:repository>/manifests/<reference>", "manifest"),
        ("GET", "/v2/<path:repository>/tags/list", "tags"),
    )

    def __init__(self, *, username: str = USERNAME, password: str = PASSWORD, latency_seconds: float = 0.0) -> None:
        super().__init__(latency_seconds=latency_seconds)
        self.packages: dict[str, Package] = {}
        self.realm: str | None = None
        """Where callers are told to log in; None: here."""
        self._credential = (username, password)
        self._tokens: dict[str, str] = {}

    # --- for tests and the local stack

    def push(self, repository: str, tag: str) -> str:
        """Push a new image of many platforms under *tag*, which moves there; return its digest."""
        manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "nonce": secrets.token_hex(8)}).encode()
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        with self.lock:
            package = self.packages.setdefault(repository, Package())
            package.tags[tag] = digest
            package.manifests[digest] = manifest
        return digest

    def make_private(self, repository: str) -> None:
        """Show a package only to who logs in."""
        with self.lock:
            self.packages.setdefault(repository, Package()).private = True

    def expire_tokens(self) -> None:
        """Have every token end now."""
        with self.lock:
            self._tokens.clear()

    def inventory(self) -> dict[str, Any]:
        """Return the tags of each package with their digests."""
        return {"packages": {name: dict(package.tags) for name, package in self.packages.items()}}

    # --- the vendor's routes

    def error(self, status: int, message: str) -> Response:
        """Return an error in the registry's form."""
        code = {401: "UNAUTHORIZED", 403: "DENIED", 404: "MANIFEST_UNKNOWN"}.get(status, "UNKNOWN")
        return answer({"errors": [{"code": code, "message": message}]}, status)

    def token(self, request: Request) -> Response:
        """Give a token for one scope: to anybody for a public package, by password for a private one."""
        repository = request.args.get("scope", "").removeprefix("repository:").removesuffix(":pull")
        given = request.authorization
        known = given is not None and (given.username, given.password) == self._credential
        if given is not None and not known:
            return self.error(403, "denied")
        package = self.packages.get(repository)
        if (package is None or package.private) and not known:
            return self.error(403, "denied")
        token = secrets.token_urlsafe(12)
        self._tokens[token] = repository
        return answer({"token": token})

    def manifest(self, request: Request, repository: str, reference: str) -> Response:
        """Answer with the manifest of a tag or a digest, to who accepts an index."""
        refusal = self._unauthorized(request, repository)
        if refusal is not None:
            return refusal
        package = self.packages.get(repository, Package())
        digest = package.tags.get(reference, reference)
        manifest = package.manifests.get(digest)
        if manifest is None:
            return self.error(404, "manifest unknown")
        if INDEX not in request.headers.get("Accept", ""):
            return self.error(404, "OCI index found, but Accept header does not support OCI indexes")
        headers = {"Docker-Content-Digest": digest}
        return Response(manifest, 200, headers=headers, content_type=INDEX)

    def tags(self, request: Request, repository: str) -> Response:
        """List the tags of a package, oldest first, on one page."""
        refusal = self._unauthorized(request, repository)
        if refusal is not None:
            return refusal
        return answer({"name": repository, "tags": list(self.packages.get(repository, Package()).tags)})

    def _unauthorized(self, request: Request, repository: str) -> Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token) == repository:
            return None
        response = self.error(401, "authentication required")
        realm = self.realm or f"{request.root_url.rstrip('/')}/token"
        scope = f"repository:{repository}:pull"
        response.headers["WWW-Authenticate"] = f'Bearer realm="{realm}",service="ghcr.io",scope="{scope}"'
        return response
