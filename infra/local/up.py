"""`python3 -m infra up`: database, simulators, functions and scheduler, from start to an orderly end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pg8000.native

from infra import routes
from infra.local import dotenv, postgres, values
from infra.local.logfiles import show_warnings
from infra.local.pool_watch import PoolWatch
from infra.local.processes import Plan, Processes, environment_for, free_ports, plan_functions, require_free
from infra.local.scheduler import Scheduler
from infra.local.stackfolder import StackFolder
from infra.local.supervisor import Kept, KeptPostgres, KeptProcess, Supervisor
from infra.migrate import MigrationError, Side, migrate
from infra.problem import Problem
from shared.errors import AppError

DATABASE = "convos"
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line."""

    port: int
    fresh: bool
    simulators: bool
    min_idle: int | None
    tick_seconds: float
    verbose: bool
    folder: Path


def up(wishes: Wishes, *, say: Callable[[str], None]) -> None:
    """Run the stack until a signal ends it. Problem says in a sentence what is wrong; nothing is left running either way."""
    _interrupt_by_signal()
    folder = StackFolder(wishes.folder)
    folder.acquire()
    require_free(wishes.port)
    table = routes.load()
    file = dotenv.read(Path(".env"))
    given = values.chosen(table, file=file, environment=os.environ)
    if wishes.min_idle is not None:
        given["POOL_MIN_IDLE"] = str(wishes.min_idle)
    if wishes.simulators and not wishes.fresh and folder.database.exists() and not folder.snapshot.exists():
        say("The simulators have kept nothing from last time, so the database starts empty too.")
        folder.start_over()
    if wishes.fresh:
        folder.start_over()
    with contextlib.ExitStack() as stack:
        server, databases = _start_databases(folder, given, stack, say, binaries=file.get("POSTGRES_BINARIES"))
        given.update(databases)
        _run(wishes, table, given, server=server, folder=folder, stack=stack, say=say)


def _run(
    wishes: Wishes,
    table: routes.Table,
    given: Mapping[str, str],
    *,
    server: postgres.Server | None,
    folder: StackFolder,
    stack: contextlib.ExitStack,
    say: Callable[[str], None],
) -> None:
    plans = plan_functions(table, front_port=wishes.port)
    simulators = _plan_simulators(folder) if wishes.simulators else None
    url = f"http://127.0.0.1:{wishes.port}"
    settings = values.gather(
        pool_url=url, keys=folder.keys(), given=given, simulators_url=simulators.url if simulators is not None else None
    )
    if simulators is None:
        values.require_vendors(settings)
    processes = Processes(folder.logs)
    stack.callback(processes.stop)
    started = [simulators, *plans] if simulators is not None else plans
    say(f"Starting {', '.join(plan.name for plan in started)} …")
    for plan in started:
        processes.start(plan, environment_for(plan, table, settings))
    processes.wait_until_ready(started)
    key = settings["POOL_API_KEY"]
    folder.write_state({"url": url, "key": key, "pid": os.getpid()})
    stack.callback(folder.forget_state)
    ended = threading.Event()
    _end_by_signal(ended)
    if wishes.verbose:
        show_warnings([processes.log_of(plan.name) for plan in started], say=say, ended=ended)
    scheduler = Scheduler(f"{url}/tick", key=settings["SERVICES_API_KEY"], every_seconds=wishes.tick_seconds, tell=say)
    stack.callback(scheduler.stop)
    scheduler.start()
    _welcome(url, key, simulators, say=say)
    kept: list[Kept] = [] if server is None else [KeptPostgres(server)]
    kept += [KeptProcess(processes, name) for name in processes.names()]
    _watch(PoolWatch(url), Supervisor(kept, say=say), say=say, ended=ended)
    say("\nStopping …")


def _watch(pool: PoolWatch, supervisor: Supervisor, *, say: Callable[[str], None], ended: threading.Event) -> None:
    """Tell how the pool warms up, and keep everything running until a signal comes."""
    while not ended.wait(0.5):
        supervisor.look()
        for sentence in pool.news():
            say(sentence)


def _welcome(url: str, key: str, simulators: Plan | None, *, say: Callable[[str], None]) -> None:
    vendors = "the vendors that the settings name" if simulators is None else f"simulated vendors ({simulators.url}/<vendor>)"
    say(f"""
The stack is running, with {vendors}.

  address  {url}
  key      {key}

Claim an agent, as soon as one is idle:

curl -sS {url}/api/pool/claim -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{"agentName": "Ada"}}'

Next, in another terminal: python3 -m infra status | claim | agents | ticks | logs --follow
Ctrl-C stops everything.
""")


def _plan_simulators(folder: StackFolder) -> Plan:
    return Plan("simulators", free_ports(1)[0], threads=32, simulators={"snapshot": str(folder.snapshot)})


def _start_databases(
    folder: StackFolder,
    given: Mapping[str, str],
    stack: contextlib.ExitStack,
    say: Callable[[str], None],
    *,
    binaries: str | None,
) -> tuple[postgres.Server | None, dict[str, str]]:
    """Return both databases' addresses, migrated; the embedded server is started for those that no setting names."""
    server = None
    names: dict[Side, str] = {"pool": "POOL_DATABASE_URL", "services": "SERVICES_DATABASE_URL"}
    urls = {name: given[name] for name in names.values() if given.get(name, "").strip()}
    if len(urls) < len(names):
        say("Starting Postgres …")
        server = postgres.start(folder.database, durable=True, binaries=binaries or os.environ.get("POSTGRES_BINARIES"))
        stack.callback(server.stop)
        _create_database(server)
        urls = {name: urls.get(name, server.url(DATABASE)) for name in names.values()}
    for side, name in names.items():
        try:
            applied = migrate(side, urls[name], log=lambda line: None)
        except MigrationError as error:
            raise Problem(f"{error} (`--fresh` begins with an empty database.)") from None
        except AppError as error:
            raise Problem(f"The database of {side} cannot be used: {error.message}") from None
        if applied:
            say(f"Brought the schema {side} up to date ({len(applied)} migration{'s' if len(applied) > 1 else ''}).")
    return server, urls


def _create_database(server: postgres.Server) -> None:
    """Create the one database with both schemas, unless it is there."""
    connection = pg8000.native.Connection(
        postgres.SUPERUSER, host="127.0.0.1", port=server.port, password=server.password, database="postgres", ssl_context=False
    )
    try:
        if not connection.run("SELECT 1 FROM pg_database WHERE datname = :name", name=DATABASE):
            connection.run(f"CREATE DATABASE {pg8000.native.identifier(DATABASE)}")
    finally:
        connection.close()


def _interrupt_by_signal() -> None:
    """Let the first signal interrupt what is being done, as Ctrl-C does; later ones do not disturb the cleaning up."""

    def interrupt(number: int, frame: object) -> None:
        for other in _ENDING:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in _ENDING:
        signal.signal(number, interrupt)


def _end_by_signal(ended: threading.Event) -> None:
    """Let a signal set *ended* from now on; further ones change nothing."""
    for number in _ENDING:
        signal.signal(number, lambda number, frame: ended.set())
