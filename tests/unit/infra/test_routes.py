"""The route table: which function answers what, and which mistakes in a function.toml are refused."""

from pathlib import Path

import pytest

from infra import routes
from infra.problem import Problem
from infra.routes import Function, table
from shared.errors import MethodNotAllowedError, NotFoundError

INSTANCES = Function("instances", "services", ("DELETE /destroy/{id}", "GET /resources/{id}", "GET /registry"))
EMAIL = Function("provision_email", "services", ("DELETE /destroy/{id}/email/{resource}", "GET /inventory/email"))
PAGE = Function("dashboard", "pool", ("GET /", "GET /assets/*"))
STORE = Function(
    "templates", "pool", ("GET /api/pool/templates/{id}", "GET /api/pool/templates/mine", "POST /api/pool/templates")
)
TABLE = table([INSTANCES, EMAIL, PAGE, STORE])


@pytest.mark.parametrize(
    ("method", "path", "function"),
    [
        ("DELETE", "/destroy/abc", "instances"),
        ("DELETE", "/destroy/abc/email/someone%40mail.example", "provision_email"),
        ("DELETE", "/destroy/abc/email/with%2Fslash", "provision_email"),
        ("GET", "/registry/", "instances"),
        ("HEAD", "/registry", "instances"),
        ("GET", "/", "dashboard"),
        ("GET", "/assets/js/app.js", "dashboard"),
        ("GET", "/api/pool/templates/mine", "templates"),
    ],
)
def test_a_request_goes_to_the_function_that_claims_its_route(method: str, path: str, function: str) -> None:
    assert TABLE.match(method, path).name == function


@pytest.mark.parametrize("path", ["/nowhere", "/destroy", "/destroy//email/x", "/destroy/a/b/c/d", "//", "/assets", "/Registry"])
def test_a_path_that_nobody_claims_is_not_found(path: str) -> None:
    with pytest.raises(NotFoundError):
        TABLE.match("GET", path)


def test_a_known_path_with_another_method_says_what_is_allowed() -> None:
    with pytest.raises(MethodNotAllowedError) as refused:
        TABLE.match("POST", "/destroy/abc")
    assert refused.value.allowed == ["DELETE"]


def test_a_literal_segment_wins_over_a_placeholder() -> None:
    first = Function("first", "pool", ("GET /things/{id}",))
    second = Function("second", "pool", ("GET /things/all",))
    for order in ([first, second], [second, first]):
        assert table(order).match("GET", "/things/all").name == "second"


def test_two_functions_cannot_claim_one_route_whatever_they_call_its_parts() -> None:
    other = Function("other", "pool", ("GET /resources/{instance}",))
    with pytest.raises(Problem, match=r"instances and other claim"):
        table([INSTANCES, other])


@pytest.mark.parametrize("route", ["GET", "FETCH /x", "GET x", "GET /a//b", "GET /a/<b>", "GET /*/b", "GET /a?b=c"])
def test_a_malformed_route_is_refused_with_its_file(route: str) -> None:
    with pytest.raises(Problem, match=r"functions/odd/function\.toml"):
        table([Function("odd", "pool", (route,))])


def write(folder: Path, text: str) -> Path:
    file = folder / "shop" / "function.toml"
    file.parent.mkdir()
    file.write_text(text)
    return file


def test_a_function_file_is_read_with_defaults(tmp_path: Path) -> None:
    write(tmp_path, 'side = "pool"\nroutes = ["GET /shop"]\nsecrets = ["KEY"]\nsettings = ["NAME"]\n')
    function = routes.load(tmp_path).match("GET", "/shop")
    assert (function.name, function.trigger, function.variables) == ("shop", "http", ("KEY", "NAME"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('routes = ["GET /shop"]', "lacks 'side'"),
        ('side = "pool"\nroutes = []\nmemroy = "1Gi"', "unknown entry 'memroy'"),
        ('side = "left"\nroutes = []', "side is one of pool, services"),
        ("side = ", "cannot be read"),
    ],
)
def test_a_wrong_function_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(Problem) as refused:
        routes.load(tmp_path)
    assert str(file) in str(refused.value)
    assert complaint in str(refused.value)
