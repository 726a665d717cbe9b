"""Named queries: the parser of a `queries.sql`.

A file is a sequence of `-- name --`, a sentence in comment lines, and one statement with `:name` placeholders. It is read at
the first use, and each statement is converted to Postgres's `$1` form once. A mistake in a file is a `ValueError` naming it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_HEADER = re.compile(r"--\s*(\S.*?)\s*--")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TOKEN = re.compile(
    r"""(?P<text>[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*")
      | (?P<dollar>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
      | (?P<comment>--[^\n]* | /\*.*?\*/)
      | (?P<colons>::|:=)
      | :(?P<name>[a-z][a-z0-9_]*)
      | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Query:
    """One statement, with the names of its parameters in the order of `$1`, `$2` …"""

    name: str
    sql: str
    parameters: tuple[str, ...] = ()

    @classmethod
    def parse(cls, name: str, text: str) -> Query:
        """Convert *text* with `:name` placeholders; what stands in quotes or comments and `::casts` are left alone."""
        names: list[str] = []
        ends: list[int] = []

        def replace(match: re.Match[str]) -> str:
            if match["end"]:
                ends.append(match.start())
            if not match["name"]:
                return match[0]
            if match["name"] not in names:
                names.append(match["name"])
            return f"${names.index(match['name']) + 1}"

        sql = _TOKEN.sub(replace, text.strip())
        if not ends:
            raise ValueError(f"The query {name} has no statement that ends with a semicolon.")
        if len(ends) > 1 or not sql.endswith(";"):
            raise ValueError(f"The query {name} must be one statement, ending with its only semicolon.")
        return cls(name, sql[:-1].rstrip(), tuple(names))


class Queries(Mapping[str, Query]):
    """The queries of one file by name; an unknown name is a KeyError that says which file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queries: dict[str, Query] | None = None

    def __getitem__(self, name: str) -> Query:
        try:
            return self._all()[name]
        except KeyError:
            raise KeyError(f"no query {name} in {self._path.name}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Query]:
        # Two threads may both read the file; the result is the same.
        if self._queries is None:
            self._queries = parse_queries(self._path.read_text(encoding="utf-8"), source=self._path.name)
        return self._queries


def load_queries(anchor: str | Path) -> Queries:
    """Return the queries of a `.sql` file, or of the `queries.sql` beside a module given by its `__file__`."""
    path = Path(anchor)
    return Queries(path if path.suffix == ".sql" else path.with_name("queries.sql"))


def parse_queries(text: str, *, source: str) -> dict[str, Query]:
    """Split *text* into its queries; a doubled or malformed name, or a query without sentence or statement, is refused."""
    queries: dict[str, Query] = {}
    for name, lines in _sections(text, source).items():
        sentence = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
        if sentence == 0:
            raise ValueError(f"The query {name} in {source} needs a sentence that says what it does.")
        queries[name] = Query.parse(name, "\n".join(lines[sentence:]))
    return queries


def _sections(text: str, source: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        header = _HEADER.fullmatch(line.strip())
        if header is not None:
            if not _NAME.fullmatch(header[1]):
                raise ValueError(f"{header[1]!r} in {source} is no name: use small letters, digits and underscores.")
            if header[1] in sections:
                raise ValueError(f"The query {header[1]} stands twice in {source}.")
            current = sections[header[1]] = []
        elif current is not None:
            if line.strip() or current:
                current.append(line)
        elif line.strip() and not line.startswith("--"):
            raise ValueError(f"{source} must begin with a name: `-- name --`.")
    return sections
