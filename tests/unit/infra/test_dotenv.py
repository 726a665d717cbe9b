"""Reading a `.env` file."""

from pathlib import Path

import pytest

from infra.local import dotenv
from infra.problem import Problem


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=plain", "plain"),
        ("export NAME = spaced ", "spaced"),
        ("NAME=", ""),
        ("NAME=value # why", "value"),
        ("NAME=#nothing", ""),
        ("NAME=a#b", "a#b"),
        ("NAME='as $it # is'", "as $it # is"),
        ('NAME="two\\nlines \\"quoted\\" \\\\" # why', 'two\nlines "quoted" \\'),
        ('NAME={"a": "b"}', '{"a": "b"}'),
        ("NAME=a=b", "a=b"),
    ],
)
def test_a_value_is_read_as_written(line: str, value: str) -> None:
    assert dotenv.parse(line) == {"NAME": value}


def test_comments_and_empty_lines_say_nothing_and_the_last_line_wins() -> None:
    assert dotenv.parse("# A=1\n\nB=1\nB=2\n") == {"B": "2"}


@pytest.mark.parametrize("line", ["just words", "1NAME=x", "NAME='open", 'NAME="a" b'])
def test_a_line_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(Problem, match=r"\.env, line 2"):
        dotenv.parse(f"A=1\n{line}\n")


def test_no_file_is_no_settings(tmp_path: Path) -> None:
    assert dotenv.read(tmp_path / ".env") == {}
