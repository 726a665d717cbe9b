"""The shape of the code: layers, cycles, where SQL and the environment are read, and what a function's folder holds."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from infra import routes
from infra.local import dotenv

ROOT = Path(__file__).resolve().parent.parent
DEPLOYED = ("shared", "functions")
OURS = (*DEPLOYED, "infra", "tests")
FUNCTIONS = sorted(file.parent for file in (ROOT / "functions").glob("*/main.py"))
SQL = re.compile(
    r"^\s*(?:SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|WITH\s+\w+\s+AS|CREATE\s+TABLE|ALTER\s+TABLE)\b",
    re.IGNORECASE | re.DOTALL,
)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/\w|\.\./shared/")


def modules(*folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py")) if "node_modules" not in file.parts]


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), filename=str(file))


def imports_of(file: Path) -> Iterator[str]:
    """Every module that *file* imports, those inside functions too."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_layers_hold() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_is_part_of_a_cycle() -> None:
    graph = grimp.build_graph("shared", "functions", "infra", cache_dir=None)
    below = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' → '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for imported in sorted(below[module]):
                visit(imported, (*path, module))
            done.add(module)

    for module in sorted(graph.modules):
        visit(module, ())


def test_only_the_settings_read_the_environment() -> None:
    """Invariant 10. What is around the deployed code (infra) starts processes and may."""
    for file in modules(*DEPLOYED):
        if name(file) == "shared/settings.py":
            continue
        for node in ast.walk(parsed(file)):
            read = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb", "putenv")
            assert not read, f"{name(file)}:{getattr(node, 'lineno', 0)} reads the environment"


def test_sql_lives_in_sql_files() -> None:
    for file in modules(*DEPLOYED):
        tree = parsed(file)
        documentation = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                assert not SQL.match(node.value), f"{name(file)}:{node.lineno} holds SQL: {node.value.strip()[:60]!r}"


def test_only_the_door_to_the_network_knows_httpx_errors() -> None:
    errors = re.compile(r"httpx\.\w*(?:Error|Timeout|Exception|InvalidURL)\b")
    for file in modules(*DEPLOYED):
        if name(file) != "shared/remote.py":
            assert not errors.search(file.read_text()), f"{name(file)} handles errors of httpx"


def test_a_broad_except_has_two_homes() -> None:
    for file in modules(*DEPLOYED):
        if name(file) in ("shared/web.py", "shared/pool/tick.py"):
            continue
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
                raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
                assert raises_again or not broad, f"{name(file)}:{node.lineno} catches everything"


@pytest.mark.parametrize("folder", FUNCTIONS, ids=lambda folder: str(folder.name))
class TestFunction:
    """Every folder of `functions/` is one deployed function."""

    def test_it_has_a_description(self, folder: Path) -> None:
        function = routes.read_function(folder / "function.toml")
        assert function.routes
        assert function.variables

    def test_its_entry_point_is_a_plain_function_of_the_folder_s_name(self, folder: Path) -> None:
        entry = getattr(importlib.import_module(f"functions.{folder.name}.main"), folder.name)
        assert type(entry) is type(imports_of), "the framework refuses other callables"
        assert entry.__name__ == folder.name

    def test_its_described_routes_are_those_in_its_code(self, folder: Path) -> None:
        entry = getattr(importlib.import_module(f"functions.{folder.name}.main"), folder.name)
        in_code = {re.sub(r"<[^>]+>", "{}", route.template) for route in entry.application.routes}
        described = {re.sub(r"\{[^}]+\}", "{}", route) for route in routes.read_function(folder / "function.toml").routes}
        assert in_code == described

    def test_its_main_holds_no_logic_of_others(self, folder: Path) -> None:
        """It imports its side's verbs, the bodies and the edge; never the other side, a database or the network."""
        side = routes.read_function(folder / "function.toml").side
        other_side = {"pool": "shared.services", "services": "shared.pool"}[side]
        for imported in imports_of(folder / "main.py"):
            forbidden = (other_side, "shared.db", "shared.remote", "infra", "httpx", "pg8000", "flask")
            assert not imported.startswith(forbidden), f"{folder.name}/main.py imports {imported}"

    def test_only_main_can_be_imported_from_its_folder(self, folder: Path) -> None:
        """The framework adds the folder to the import path: a module beside main.py would shadow others."""
        assert [file.name for file in folder.glob("*.py")] == ["main.py"]


def test_each_vendor_key_is_a_secret_of_one_function_only() -> None:
    """P42; Railway's token is shared with the webhook alone."""
    keys = re.compile(r"^(?:OPENROUTER|AGENTMAIL|TELNYX|BANKR)_\w*KEY$")
    holders: dict[str, list[str]] = {}
    for function in routes.load().functions:
        for variable in function.variables:
            if keys.match(variable) or variable == "RAILWAY_API_TOKEN":
                holders.setdefault(variable, []).append(function.name)
    assert holders
    for variable, names in holders.items():
        assert len(set(names) - {"railway_webhook"}) == 1, f"{variable} is known to {names}"


def test_each_side_knows_its_own_database_only() -> None:
    other = {"pool": "SERVICES_DATABASE_URL", "services": "POOL_DATABASE_URL"}
    for function in routes.load().functions:
        assert other[function.side] not in function.variables, function.name


def test_secrets_are_declared_as_secrets() -> None:
    for function in routes.load().functions:
        for variable in function.settings:
            assert not re.search(r"(?:_KEY|_TOKEN|_SECRET|_DATABASE_URL)$", variable), f"{function.name}: {variable} is a secret"


def test_every_setting_is_explained_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    explained = set(re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))
    declared = {variable for function in routes.load().functions for variable in function.variables}
    assert declared - explained == set(), "not in .env.example"
    assert explained - declared == {"INFRA_VENV", "POSTGRES_BINARIES"}, "in .env.example, and read by no function"
    assert dotenv.parse(example) == {}, "a copy of it changes nothing"


def test_every_module_says_what_belongs_in_it() -> None:
    for file in modules(*OURS):
        if file.name != "__init__.py" or file.read_text().strip():
            assert ast.get_docstring(parsed(file)), f"{name(file)} has no docstring"


def test_no_module_outgrows_a_reader() -> None:
    for file in modules("shared", "functions", "infra"):
        assert len(file.read_text().splitlines()) <= 400, f"{name(file)} is longer than 400 lines"


def test_main_files_stay_thin() -> None:
    for folder in FUNCTIONS:
        for node in ast.walk(parsed(folder / "main.py")):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 12, f"{folder.name}/main.py: {node.name} holds logic"


def test_no_module_is_called_by_a_word_that_says_nothing() -> None:
    for file in modules(*OURS):
        assert file.stem not in ("utils", "util", "helpers", "helper", "manager", "common", "misc"), name(file)


def test_no_text_names_a_path_of_somebody_s_machine() -> None:
    kinds = ("*.py", "*.md", "*.toml", "*.txt", "*.sql", "*.yaml", ".env.example")
    for kind in kinds:
        for file in ROOT.rglob(kind):
            if any(part in (".venv", ".local", "node_modules", ".git") or part.endswith("_cache") for part in file.parts):
                continue
            if file == Path(__file__):
                continue
            for number, line in enumerate(file.read_text().splitlines(), start=1):
                assert not MACHINE_PATHS.search(line), f"{name(file)}:{number}: {line.strip()[:80]}"
