"""A real PgBouncer before a test's server, in transaction mode, on a free port."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local import child
from infra.local.postgres import SUPERUSER, Server


@contextmanager
def pgbouncer(program: str, server: Server, *, server_connections: int, database: str) -> Iterator[str]:
    """Start *program* and yield the URL of *database* behind it; all clients share *server_connections*."""
    folder = Path(tempfile.mkdtemp(prefix="bouncer-"))
    port = _free_port()
    (folder / "users.txt").write_text(f'"{SUPERUSER}" "{server.password}"\n')
    (folder / "pgbouncer.ini").write_text(_configuration(folder, server, port=port, server_connections=server_connections))
    owner = child.unprivileged()
    if owner is not None:
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.uid, owner.gid)
    process = child.spawn([program, "-q", str(folder / "pgbouncer.ini")], owner=owner)
    try:
        _wait_for(port, folder)
        yield f"postgresql://{SUPERUSER}@127.0.0.1:{port}/{database}?sslmode=disable"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _configuration(folder: Path, server: Server, *, port: int, server_connections: int) -> str:
    return f"""
[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users.txt
logfile = {folder}/log.txt
pool_mode = transaction
default_pool_size = {server_connections}
max_client_conn = 200
"""


def _wait_for(port: int, folder: Path) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                log = folder / "log.txt"
                raise AssertionError(f"PgBouncer did not start: {log.read_text() if log.exists() else 'no log'}") from None
            time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
