"""Where the database is and how to get there: the URL, the socket, TLS.

`postgresql://user:password@host:port/name?…` with, all optional:
`sslmode` = `disable` | `require` (encrypted, not verified) | `verify-ca` | `verify-full`; without it `disable` for this
machine and a unix socket, `verify-full` for everything else; `sslrootcert` = a file; `host` = the folder of a unix socket
(`/cloudsql/PROJECT:REGION:INSTANCE`); `pooler` = `auto` | `transaction` | `none`; `connections` = how many at most.
"""

from __future__ import annotations

import socket
import ssl
import sys
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from shared.errors import SettingsError
from shared.settings import reveal

SSL_MODES = ("disable", "require", "verify-ca", "verify-full")
POOLERS = ("auto", "transaction", "none")
_PARAMETERS = {"sslmode", "sslrootcert", "host", "pooler", "connections", "channel_binding"}
_LOCAL = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Address:
    """A database URL, taken apart. Printing it shows no password."""

    user: str
    password: str | None = field(repr=False)
    host: str
    port: int
    database: str
    ssl_mode: str = "disable"
    ssl_root_certificate: str | None = None
    pooler: str = "auto"
    connections: int | None = None

    @property
    def socket_path(self) -> str | None:
        """The unix socket's file, when the host is a folder."""
        return f"{self.host.rstrip('/')}/.s.PGSQL.{self.port}" if self.host.startswith("/") else None


def parse_address(url: SecretStr | str) -> Address:
    """Take *url* apart, or raise SettingsError with what is wrong; the message never contains the URL."""
    try:
        parts = urlsplit(reveal(url) if isinstance(url, SecretStr) else url)
        port = parts.port
    except ValueError:
        raise _malformed("its host or port cannot be read") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise _malformed("it must begin with postgresql://")
    if not parts.username or not parts.path.strip("/"):
        raise _malformed("it must name a user and a database")
    options = _options(parts)
    host = options.get("host") or (parts.hostname or "localhost")
    return Address(
        user=unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
        host=host,
        port=port or 5432,
        database=unquote(parts.path.strip("/")),
        ssl_mode=_choice(options, "sslmode", SSL_MODES, "disable" if host in _LOCAL or host.startswith("/") else "verify-full"),
        ssl_root_certificate=options.get("sslrootcert"),
        pooler=_choice(options, "pooler", POOLERS, "auto"),
        connections=_count(options),
    )


def _options(parts: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    for name in names:
        if name not in _PARAMETERS:
            raise _malformed(f"{name!r} is not one of {', '.join(sorted(_PARAMETERS))}")
        if names.count(name) > 1:
            raise _malformed(f"{name} stands in it twice")
    return dict(pairs)


def _choice(options: dict[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = options.get(name, default)
    if value not in allowed:
        raise _malformed(f"{name} must be one of {', '.join(allowed)}")
    return value


def _count(options: dict[str, str]) -> int | None:
    text = options.get("connections")
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise _malformed("connections must be a number from 1 to 1000")
    return int(text)


def _malformed(why: str) -> SettingsError:
    return SettingsError(f"The database URL is malformed: {why}.")


def tls_context(address: Address) -> ssl.SSLContext | None:
    """Build what verifies the server; loading the trusted certificates takes milliseconds, so do it once."""
    if address.ssl_mode == "disable" or address.socket_path is not None:
        return None
    try:
        context = ssl.create_default_context(cafile=address.ssl_root_certificate)
    except OSError:
        raise _malformed("the file named by sslrootcert cannot be read") from None
    context.check_hostname = address.ssl_mode == "verify-full"
    if address.ssl_mode == "require" and address.ssl_root_certificate is None:
        context.verify_mode = ssl.CERT_NONE
    return context


def open_socket(address: Address, *, connect_seconds: float, silence_seconds: float | None) -> socket.socket:
    """Connect; a peer that vanished is noticed when it has not acknowledged us for *silence_seconds*."""
    if address.socket_path is not None:
        local = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            local.settimeout(connect_seconds)
            local.connect(address.socket_path)
        except BaseException:
            local.close()
            raise
        return local
    remote = socket.create_connection((address.host, address.port), connect_seconds)
    # Without it, parameters of more than a packet wait 40 ms for the peer's delayed acknowledgement.
    remote.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    remote.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        remote.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        remote.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        remote.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        remote.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int((silence_seconds or 60) * 1000))
    return remote
