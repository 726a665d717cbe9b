"""Reading `queries.sql`."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.db.queries import Query, load_queries, parse_queries

FILE = """-- What this file is for.

-- first --
-- Look one up.
SELECT a FROM t WHERE id = :id;

-- second --
-- Change it, in
-- two lines of words.
UPDATE t SET a = :a,
             b = :b
 WHERE id = :id;
"""


def test_queries_are_found_by_name_with_their_parameters_in_order() -> None:
    queries = parse_queries(FILE, source="x.sql")
    assert list(queries) == ["first", "second"]
    assert queries["first"] == Query("first", "SELECT a FROM t WHERE id = $1", ("id",))
    assert queries["second"].parameters == ("a", "b", "id")


def test_a_parameter_used_twice_is_sent_once() -> None:
    query = Query.parse("q", "SELECT :a, :b, :a;")
    assert query.sql == "SELECT $1, $2, $1"
    assert query.parameters == ("a", "b")


@pytest.mark.parametrize(
    "text",
    [
        "SELECT now()::text, '12:30'::time",
        "SELECT 'it''s :not; one'",
        r"SELECT E'a\':not; one'",
        'SELECT ":not; one"',
        "SELECT 1 -- :not; one, isn't it",
        "SELECT 1 /* :not; one */",
        "SELECT $$ :not; one $$, $tag$ :not; $$ one $tag$",
        "SELECT array_position[1:2]",
        "CALL f(a := 1)",
    ],
)
def test_casts_texts_and_comments_hold_no_parameters(text: str) -> None:
    assert Query.parse("q", text + "\n;") == Query("q", text, ())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- a --\n-- Once.\nSELECT 1;\n-- a --\n-- Twice.\nSELECT 2;", "twice"),
        ("-- Not A Name --\n-- Words.\nSELECT 1;", "is no name"),
        ("-- a --\nSELECT 1;", "needs a sentence"),
        ("-- a --\n-- Words.", "semicolon"),
        ("-- a --\n-- Words.\nSELECT 1", "semicolon"),
        ("-- a --\n-- Words.\nSELECT 1; SELECT 2;", "one statement"),
        ("SELECT 1;\n-- a --\n-- Words.\nSELECT 1;", "must begin with a name"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_queries(text, source="x.sql")


def test_the_file_beside_a_module_is_read_at_the_first_use(tmp_path: Path) -> None:
    queries = load_queries(tmp_path / "store.py")
    (tmp_path / "queries.sql").write_text(FILE)
    assert queries["first"].parameters == ("id",)
    assert len(queries) == 2
    with pytest.raises(KeyError, match="no query third in"):
        queries["third"]
