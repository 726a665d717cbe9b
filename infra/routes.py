"""The one route table, read from every `functions/*/function.toml`.

The local gateway and the production load balancer are both made from it. A route is `METHOD /path/{name}`; a path may end in
`/*`, which stands for everything below it. A literal segment wins over a placeholder, a placeholder over `*`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from infra.problem import Problem
from shared.errors import MethodNotAllowedError, NotFoundError

FUNCTIONS = Path(__file__).resolve().parent.parent / "functions"
SIDES = ("pool", "services")
TRIGGERS = ("http", "schedule")
INGRESS = ("public", "internal")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_LITERAL, _PLACEHOLDER, _REST = 0, 1, 2


@dataclass(frozen=True)
class Function:
    """One deployed function, as its `function.toml` describes it."""

    name: str
    """The folder, and the entry point in its main.py."""
    side: str
    routes: tuple[str, ...]
    trigger: str = "http"
    """`schedule`: Cloud Scheduler calls it too."""
    ingress: str = "public"
    """`internal`: only the scheduler and our own functions reach it."""
    memory: str = "512Mi"
    timeout_seconds: int = 60
    concurrency: int = 16
    min_instances: int = 0
    max_instances: int = 10
    secrets: tuple[str, ...] = ()
    """Variables whose values come from Secret Manager."""
    settings: tuple[str, ...] = ()
    """Variables whose values stand in the deployment's configuration."""

    @property
    def source(self) -> Path:
        """The file that the framework loads."""
        return FUNCTIONS / self.name / "main.py"

    @property
    def variables(self) -> tuple[str, ...]:
        """Every variable that it may read."""
        return (*self.secrets, *self.settings)


@dataclass(frozen=True)
class Table:
    """Front-door paths and the functions behind them."""

    functions: tuple[Function, ...]
    _patterns: tuple[_Pattern, ...] = field(repr=False)

    def match(self, method: str, path: str) -> Function:
        """Return the function that answers *method* on the raw (still encoded) *path*.

        HEAD goes where GET goes, and one slash at the end is ignored. Raises NotFoundError or MethodNotAllowedError.
        """
        wanted = "GET" if method == "HEAD" else method
        segments = _segments(path)
        fitting = [pattern for pattern in self._patterns if pattern.fits(segments)]
        if not fitting:
            raise NotFoundError("There is no such path here.", code="no_route")
        allowed = [pattern for pattern in fitting if pattern.method == wanted]
        if not allowed:
            raise MethodNotAllowedError(sorted({pattern.method for pattern in fitting}))
        return min(allowed, key=lambda pattern: pattern.kinds).function


@dataclass(frozen=True)
class _Pattern:
    method: str
    segments: tuple[str, ...]
    function: Function = field(repr=False)

    @property
    def kinds(self) -> tuple[int, ...]:
        """What each segment is; smaller tuples are more specific."""
        return tuple(map(_kind, self.segments))

    @property
    def shape(self) -> tuple[str, ...]:
        """The segments without the placeholders' names: two routes of one shape cannot be told apart."""
        return tuple("{}" if _kind(segment) == _PLACEHOLDER else segment for segment in self.segments)

    def fits(self, segments: Sequence[str]) -> bool:
        if self.segments[-1:] == ("*",):
            return len(segments) >= len(self.segments) and _fit(self.segments[:-1], segments)
        return len(segments) == len(self.segments) and _fit(self.segments, segments)


def load(folder: Path = FUNCTIONS) -> Table:
    """Read every function below *folder*; raises Problem naming the file and what is wrong in it."""
    return table(read_function(file) for file in sorted(folder.glob("*/function.toml")))


def table(functions: Iterable[Function]) -> Table:
    """Make a table; raises Problem when a route is malformed or two functions claim the same one."""
    known = tuple(functions)
    patterns: list[_Pattern] = []
    taken: dict[tuple[str, tuple[str, ...]], str] = {}
    for function in known:
        for route in function.routes:
            pattern = _parse(route, function)
            key = (pattern.method, pattern.shape)
            if key in taken:
                raise Problem(f"Both {taken[key]} and {function.name} claim the route {route!r}.")
            taken[key] = function.name
            patterns.append(pattern)
    return Table(known, tuple(patterns))


def read_function(file: Path) -> Function:
    """Read one `function.toml`; unknown or missing names are refused, so that no typing mistake is ignored."""
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Problem(f"{file} cannot be read: {error}.") from None
    known = set(Function.__dataclass_fields__) - {"name"}
    for name in sorted({"side", "routes"} - set(found)):
        raise Problem(f"{file} lacks {name!r}.")
    for name in sorted(set(found) - known):
        raise Problem(f"{file} has an unknown entry {name!r}; there are {', '.join(sorted(known))}.")
    for name, choices in (("side", SIDES), ("trigger", TRIGGERS), ("ingress", INGRESS)):
        if found.get(name, choices[0]) not in choices:
            raise Problem(f"{file}: {name} is one of {', '.join(choices)}.")
    return Function(name=file.parent.name, **{name: _frozen(value) for name, value in found.items()})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _parse(route: str, function: Function) -> _Pattern:
    method, _, path = route.partition(" ")
    pattern = _Pattern(method, tuple(path.split("/")[1:]) if path != "/" else (), function)
    malformed = (
        method not in METHODS
        or not path.startswith("/")
        or any(not segment for segment in pattern.segments)
        or any(char in segment for segment in pattern.segments for char in "<>%? ")
        or "*" in "".join(pattern.segments[:-1])
    )
    if malformed:
        raise Problem(f"functions/{function.name}/function.toml: {route!r} is not a route like 'GET /path/{{name}}'.")
    return pattern


def _segments(path: str) -> tuple[str, ...]:
    """Split before decoding: an encoded slash belongs to its segment."""
    trimmed = path[1:].removesuffix("/") if not path.endswith("//") else path[1:]
    return tuple(unquote(segment) for segment in trimmed.split("/")) if trimmed else ()


def _fit(pattern: Sequence[str], segments: Sequence[str]) -> bool:
    return all(
        bool(given) if _kind(wanted) == _PLACEHOLDER else wanted == given
        for wanted, given in zip(pattern, segments, strict=False)
    )


def _kind(segment: str) -> int:
    if segment == "*":
        return _REST
    return _PLACEHOLDER if segment.startswith("{") and segment.endswith("}") else _LITERAL
