"""When the environment counts as ready, and how pip's indexes reach uv."""

import json
from pathlib import Path

from infra import environment


def test_a_digest_changes_with_an_included_file(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("one==1\n")
    (tmp_path / "more.txt").write_text("-r base.txt\ntwo==2\n")
    before = environment.digest(tmp_path / "more.txt")
    (tmp_path / "base.txt").write_text("one==2\n")
    assert environment.digest(tmp_path / "more.txt") != before


def test_an_environment_is_current_only_with_python_and_the_digest_of_today(tmp_path: Path) -> None:
    stamp = tmp_path / ".installed.json"
    stamp.write_text(json.dumps({"stack": environment.digest(environment.REQUIREMENTS["stack"])}))
    assert not environment.is_current(tmp_path, "stack"), "there is no Python in it"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert environment.is_current(tmp_path, "stack")
    assert not environment.is_current(tmp_path, "tests")
    stamp.write_text("half a fi")
    assert not environment.is_current(tmp_path, "stack")


def test_pip_s_indexes_are_uv_s_too() -> None:
    listed = (
        "global.index-url='https://mirror.example/simple'\nglobal.extra-index-url='file:///a file:///b'\n:env:.find-links='/w'\n"
    )
    found = environment.uv_settings(listed)
    assert found["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert found["UV_INDEX"] == "file:///a file:///b"
    assert found["UV_FIND_LINKS"] == "/w"
