"""TLS to the database: verified by default, and refused when it cannot be.

The wheels carry no TLS, so this takes an installed server.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from infra.local import postgres
from shared.db import Database, Query
from shared.errors import SettingsError
from tests.requirement import missing

ENCRYPTED = Query.parse("encrypted", "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid();")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The URL, without sslmode, of a server whose certificate is for 127.0.0.1."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not installed:
        missing("postgresql")
    folder = Path(tempfile.mkdtemp(prefix="convos-"))
    server = postgres.start(folder, durable=False, binaries=installed[-1].parent)
    certify(folder)
    with (folder / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n")
    server.restart()
    yield server.url().split("?")[0] + f"?sslrootcert={folder / 'server.pem'}"
    server.stop()
    shutil.rmtree(folder)


def certify(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "database")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(private)
    owner = folder.stat()
    os.chown(folder / "server.key", owner.st_uid, owner.st_gid)
    (folder / "server.key").chmod(0o600)


def ask(url: str) -> object:
    db = Database(url)
    try:
        for _ in range(3):
            rows = db.run(ENCRYPTED)
        assert len(db._wires) == 1
        assert db.statements == 3 + 1
        return rows[0]["ssl"]
    finally:
        db.close()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_a_certificate_that_checks_out_is_accepted(url: str, mode: str) -> None:
    assert ask(f"{url}&sslmode={mode}") is True


def test_a_certificate_for_another_name_is_refused_when_the_name_counts(url: str) -> None:
    elsewhere = url.replace("127.0.0.1", "localhost")
    assert ask(f"{elsewhere}&sslmode=verify-ca") is True
    with pytest.raises(SettingsError, match="could not be verified"):
        ask(f"{elsewhere}&sslmode=verify-full")


def test_a_certificate_signed_by_nobody_we_trust_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="could not be verified"):
        ask(url.split("?")[0] + "?sslmode=verify-full")


def test_encryption_alone_needs_no_trust(url: str) -> None:
    assert ask(url.split("?")[0] + "?sslmode=require") is True
