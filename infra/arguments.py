"""What can be typed after `python3 -m infra`. Standard library only, so that `--help` works before anything is installed."""

from __future__ import annotations

import argparse
import sys

TOOLS = ("browser", "pgbouncer", "pgbench", "gcloud")
DEFAULT_STATE = ".local"
_OPERATE = "infra.commands.operate"


def parse(argv: list[str]) -> argparse.Namespace:
    """Return the parsed arguments with `handler` ("module:function") and `needs` (which requirements it runs with)."""
    parser = _parser()
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    if argv[:1] == ["test"]:
        ours, pytest_arguments = _split_test(argv[1:])
        arguments = parser.parse_args(["test", *ours])
        arguments.pytest_arguments = pytest_arguments
        return arguments
    return parser.parse_args(argv)


def _split_test(argv: list[str]) -> tuple[list[str], list[str]]:
    """Separate our options of `test` from pytest's, which may stand anywhere."""
    ours: list[str] = []
    theirs: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "--require":
            ours += [word, next(rest, "")]
        elif word.startswith("--require=") or word in ("-h", "--help"):
            ours.append(word)
        elif word != "--":
            theirs.append(word)
    return ours, theirs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m infra",
        description="Convos Agents on one machine, and its operator's tools.",
        formatter_class=_Help,
    )
    commands = parser.add_subparsers(title="commands", metavar="<command>", required=True)
    _add_workstation(commands)
    _add_operator(commands)
    return parser


class _Help(argparse.HelpFormatter):
    """Leaves room for the longest command and option beside what they are for."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def format_help(self) -> str:
        """Return the help; a list of commands is indented by two more than argparse reckons with."""
        self._action_max_length += 2
        return super().format_help()


def _add_workstation(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    up = _command(commands, "up", "start everything on this machine", "infra.commands.up:run")
    up.add_argument("--port", type=_port, default=8080, help="the one port of the front door (default: 8080)")
    up.add_argument("--fresh", action="store_true", help="begin with an empty database")
    up.add_argument(
        "--vendors",
        choices=("simulators", "env"),
        default="simulators",
        help="simulators of every vendor (default), or only the vendors that the settings name",
    )
    up.add_argument("--min-idle", type=_count, metavar="N", help="how many instances to keep warm (POOL_MIN_IDLE; default: 3)")
    up.add_argument(
        "--tick-seconds", type=_interval, default=5.0, metavar="S", help="pause between ticks (default: 5; production: 60)"
    )
    up.add_argument("--verbose", action="store_true", help="show the warnings of every process")
    _add_state(up)

    test = _command(commands, "test", "run every check and every test", "infra.commands.checks:test", needs="tests")
    test.usage = "python3 -m infra test [--require TOOL,…] [pytest's arguments]"
    test.add_argument("--require", type=_tools, default=(), metavar="TOOL,…", help=f"fail without these: {', '.join(TOOLS)}")
    _command(commands, "check", "lint, types and layers only", "infra.commands.checks:check", needs="tests")

    migrate = _command(commands, "migrate", "bring both database schemas up to date", "infra.commands.migrate:run")
    migrate.add_argument("--pool", metavar="URL", help="the pool side's database (POOL_DATABASE_URL)")
    migrate.add_argument("--services", metavar="URL", help="the services side's database (SERVICES_DATABASE_URL)")


def _add_operator(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _operator(commands, "status", "how the pool is doing")
    claim = _operator(commands, "claim", "claim an agent")
    claim.add_argument("--name", help="the agent's name")
    claim.add_argument("--instructions", help="what it is told to be")
    claim.add_argument("--join", metavar="URL", help="the invite of a conversation to join")
    drain = _operator(commands, "drain", "destroy instances that nobody has claimed")
    how_many = drain.add_mutually_exclusive_group(required=True)
    how_many.add_argument("count", nargs="?", type=_number, metavar="N", help="how many, the oldest first")
    how_many.add_argument("--all", action="store_true", help="all of them")
    drain.add_argument("--pause", action="store_true", help="also pause the pool, so that they are not replaced")
    _with_instance(_operator(commands, "kill", "destroy one instance, claimed or not"))
    _with_instance(_operator(commands, "protect", "let nobody destroy an instance"))
    _with_instance(_operator(commands, "unprotect", "end an instance's protection"))
    replenish = _operator(commands, "replenish", "fill the pool up to its target now")
    replenish.add_argument("count", nargs="?", type=_number, metavar="N", help="at most so many new instances")
    pause = _operator(commands, "pause", "stop creating instances")
    pause.add_argument("--reason", help="why, for those who look later")
    _operator(commands, "resume", "create instances again")
    agents = _operator(commands, "agents", "list the instances")
    agents.add_argument("--status", help="only those in this status")
    _with_instance(_operator(commands, "show", "all about one instance"))
    ticks = _operator(commands, "ticks", "what the last ticks saw, decided and did")
    ticks.add_argument("--limit", type=_number, default=20, metavar="N", help="how many (default: 20)")
    events = _operator(commands, "events", "what happened lately")
    events.add_argument("--limit", type=_number, default=50, metavar="N", help="how many (default: 50)")
    events.add_argument("--instance", metavar="ID", help="only of this instance")

    logs = _command(commands, "logs", "the log lines of the local stack", "infra.commands.logs:run")
    logs.add_argument("process", nargs="?", help="one process only: pool, tick, services, plugins, simulators")
    logs.add_argument("--follow", action="store_true", help="wait for more")
    logs.add_argument("--instance", metavar="ID", help="only lines about this instance")
    logs.add_argument("--json", action="store_true", help="the lines as they were written")
    _add_state(logs)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str, handler: str, *, needs: str = "stack"
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose[0].upper() + purpose[1:] + ".", formatter_class=_Help)
    parser.set_defaults(handler=handler, needs=needs)
    return parser


def _operator(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, purpose: str) -> argparse.ArgumentParser:
    parser = _command(commands, name, purpose, f"{_OPERATE}:{name}")
    parser.add_argument("--url", help="a deployed pool (POOL_URL); default: the local stack")
    parser.add_argument("--key", help="its key (POOL_API_KEY)")
    parser.add_argument("--json", action="store_true", help="print the API's answer as it is")
    _add_state(parser)
    return parser


def _with_instance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instance", metavar="ID", help="the instance's id")


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", default=DEFAULT_STATE, metavar="FOLDER", help=f"the stack's folder (default: {DEFAULT_STATE})")


def _port(text: str) -> int:
    if text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")


def _count(text: str) -> int:
    if text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError("give a whole number, 0 or more")


def _number(text: str) -> int:
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError("give a whole number, 1 or more")


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0.2 <= seconds <= 3600:
        return seconds
    raise argparse.ArgumentTypeError("give seconds, from 0.2 to 3600")


def _tools(text: str) -> tuple[str, ...]:
    tools = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [tool for tool in tools if tool not in TOOLS]
    if unknown or not tools:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(TOOLS)}")
    return tools
