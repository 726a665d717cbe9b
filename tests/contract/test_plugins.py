"""One suite for every plugin in the registry, each against its vendor's simulator over HTTP.

A new plugin is found by its line in `PLUGINS`; it needs an entry in `VENDORS` and passes, or it is not finished.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from shared.errors import NotConfiguredError, RemoteError, RemoteRefusedError, RemoteUnavailableError, SettingsError
from shared.services import names
from shared.services.plugins import PLUGINS
from shared.settings import load, reveal
from tests.contract.vendors import FAILURES, NAME, ONCE, OURS, VENDORS, Vendor, calls_of, everything, provision

REMOTE = [tool for tool in PLUGINS if tool != "wallet"]
every_tool = pytest.mark.parametrize("tool", list(PLUGINS))
every_vendor = pytest.mark.parametrize("tool", REMOTE)
every_listing = pytest.mark.parametrize("tool", [tool for tool in REMOTE if tool != "crypto"])
every_failure = pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure[0]}{failure[1].get('status', '')}")


# --- the registry


@every_tool
def test_a_plugin_says_the_same_of_itself_as_the_registry_does(tool: str) -> None:
    plugin, kind = VENDORS[tool]().plugin(), PLUGINS[tool].kind
    assert (plugin.tool, plugin.always, plugin.reusable, plugin.variables) == (tool, kind.always, kind.reusable, kind.variables)
    assert plugin.title


def test_every_instance_gets_a_model_key_and_a_wallet_and_nothing_else() -> None:
    assert {tool for tool, registration in PLUGINS.items() if registration.kind.always} == {"openrouter", "wallet"}


def test_asking_for_one_plugin_imports_no_other_and_no_cryptography() -> None:
    program = """
import sys
from shared.services.plugins import PLUGINS
PLUGINS["email"].kind
others = {"openrouter", "telnyx", "bankr", "wallet"}
loaded = {name for name in others if f"shared.services.plugins.{name}" in sys.modules}
PLUGINS["wallet"].build({})
assert not loaded, loaded
assert "cryptography" not in sys.modules and "Crypto" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@every_vendor
def test_without_its_key_a_tool_is_not_configured_and_refused_by_name_before_any_call(tool: str) -> None:
    """P18."""
    vendor = VENDORS[tool]()
    for missing in (name for name, value in vendor.environment.items() if value == OURS):
        rest = {name: value for name, value in vendor.environment.items() if name != missing}
        assert not PLUGINS[tool].is_configured(rest)
        with pytest.raises(NotConfiguredError, match=tool):
            PLUGINS[tool].build(rest)
    assert PLUGINS[tool].is_configured(vendor.environment)


@every_vendor
def test_an_address_that_is_none_is_told_with_the_variables_name(tool: str) -> None:
    """P18."""
    vendor = VENDORS[tool]()
    variable = next(name for name in vendor.environment if name.endswith("_API_URL"))
    with pytest.raises(SettingsError, match=variable):
        PLUGINS[tool].build({**vendor.environment, variable: "api.example"})


@every_vendor
def test_a_key_that_no_header_can_carry_is_told_with_its_variables_name_and_without_the_key(tool: str) -> None:
    """P18, P43."""
    vendor = VENDORS[tool]()
    variable = next(name for name, value in vendor.environment.items() if value == OURS)
    for key in (f"{OURS}\u00e9", f"{OURS}\nx"):
        with pytest.raises(SettingsError, match=variable) as caught:
            PLUGINS[tool].build({**vendor.environment, variable: key})
        assert OURS not in f"{caught.value!r} {caught.value.__cause__}"


@every_vendor
def test_the_line_break_at_the_end_of_a_mounted_key_does_no_harm(tool: str) -> None:
    vendor = VENDORS[tool]()
    environment = {name: f"{value}\n" if value == OURS else value for name, value in vendor.environment.items()}
    assert vendor.works(provision(Vendor(tool, environment, vendor.simulator, vendor.works, vendor.clock).plugin()))


# --- provisioning


@every_tool
def test_a_provision_grants_exactly_the_variables_it_announces_and_they_work(tool: str) -> None:
    vendor = VENDORS[tool]()
    grant = provision(vendor.plugin())
    assert tuple(grant.variables) == vendor.plugin().variables
    assert vendor.works(grant)


@every_vendor
def test_no_variable_is_a_key_of_ours(tool: str) -> None:
    """P42."""
    grant = provision(VENDORS[tool]().plugin())
    assert OURS not in [reveal(value) for value in grant.variables.values()]


@every_vendor
def test_what_was_bought_stands_at_the_vendor_under_the_name_we_gave(tool: str) -> None:
    """P26."""
    vendor = VENDORS[tool]()
    grant = provision(vendor.plugin())
    assert vendor.held() == {grant.resource_id: NAME}


@every_vendor
def test_a_second_doubtful_provision_leaves_one_living_resource(tool: str) -> None:
    """P17."""
    vendor = VENDORS[tool]()
    provision(vendor.plugin())
    again = provision(vendor.plugin(), doubtful=True)
    assert vendor.held() == {again.resource_id: NAME}
    assert vendor.works(again)


@every_vendor
def test_a_doubtful_provision_with_nothing_there_buys(tool: str) -> None:
    vendor = VENDORS[tool]()
    grant = provision(vendor.plugin(), doubtful=True)
    assert vendor.held() == {grant.resource_id: NAME}
    assert vendor.works(grant)


@every_vendor
def test_a_doubtful_provision_touches_nothing_of_another_instance(tool: str) -> None:
    """P26."""
    vendor = VENDORS[tool]()
    others = [provision(vendor.plugin(), name) for name in (names.make("test", "a2"), names.make("other", "a1"))]
    provision(vendor.plugin())
    provision(vendor.plugin(), doubtful=True)
    assert {other.resource_id for other in others} < set(vendor.held())
    assert len(vendor.held()) == 3


@every_failure
@every_vendor
def test_whatever_fails_during_a_provision_a_doubtful_one_afterwards_leaves_exactly_one(
    tool: str, failure: tuple[str, dict[str, Any]]
) -> None:
    """P17: every call of the purchase fails once, in every way; nothing leaks and nothing is lost."""
    for position in range(calls_of(tool, lambda vendor: provision(vendor.plugin()))):
        vendor = VENDORS[tool]()
        assert vendor.simulator is not None
        vendor.simulator.fail("*", failure[0], skip=position, **failure[1])
        with pytest.raises(RemoteUnavailableError):
            provision(vendor.plugin(ONCE))
        grant = provision(vendor.plugin(ONCE), doubtful=True)
        assert vendor.held() == {grant.resource_id: NAME}, position
        assert vendor.works(grant), position


@every_failure
@every_vendor
def test_a_failure_while_clearing_up_a_lost_purchase_leaks_nothing_either(tool: str, failure: tuple[str, dict[str, Any]]) -> None:
    """P17."""

    def act(vendor: Vendor) -> None:
        provision(vendor.plugin())
        provision(vendor.plugin(), doubtful=True)

    first = calls_of(tool, lambda vendor: provision(vendor.plugin()))
    for position in range(calls_of(tool, act) - first):
        vendor = VENDORS[tool]()
        assert vendor.simulator is not None
        provision(vendor.plugin())
        vendor.simulator.fail("*", failure[0], skip=position, **failure[1])
        with pytest.raises(RemoteUnavailableError):
            provision(vendor.plugin(ONCE), doubtful=True)
        grant = provision(vendor.plugin(ONCE), doubtful=True)
        assert vendor.held() == {grant.resource_id: NAME}, position
        assert vendor.works(grant), position


# --- releasing


@every_tool
def test_a_release_ends_it_and_a_second_one_is_quiet(tool: str) -> None:
    """P30."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    grant = provision(plugin)
    plugin.release(grant.resource_id)
    assert plugin.is_gone(grant.resource_id) is True
    assert vendor.held() == {}
    plugin.release(grant.resource_id)


@every_vendor
def test_what_lives_is_not_gone(tool: str) -> None:
    plugin = VENDORS[tool]().plugin()
    assert plugin.is_gone(provision(plugin).resource_id) is False


@every_failure
@every_vendor
def test_a_release_that_failed_half_way_is_completed_by_the_next(tool: str, failure: tuple[str, dict[str, Any]]) -> None:
    """P25: the failure is told, and the resource is not reported gone because of it."""

    def act(vendor: Vendor) -> None:
        vendor.plugin().release(provision(vendor.plugin()).resource_id)

    bought = calls_of(tool, lambda vendor: provision(vendor.plugin()))
    for position in range(calls_of(tool, act) - bought):
        vendor = VENDORS[tool]()
        grant = provision(vendor.plugin())
        assert vendor.simulator is not None
        vendor.simulator.fail("*", failure[0], skip=position, **failure[1])
        with pytest.raises(RemoteUnavailableError):
            vendor.plugin(ONCE).release(grant.resource_id)
        vendor.plugin(ONCE).release(grant.resource_id)
        assert vendor.held() == {}, position


@every_vendor
def test_a_resource_can_be_bought_again_under_the_next_attempt_after_its_release(tool: str) -> None:
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    plugin.release(provision(plugin).resource_id)
    second = names.make("test", "a1", attempt=2)
    grant = plugin.provision(second, attempt=2, doubtful=False)
    assert vendor.held() == {grant.resource_id: second}
    assert vendor.works(grant)


# --- assigning from stock


@pytest.mark.parametrize("tool", [tool for tool in REMOTE if PLUGINS[tool].kind.reusable])
def test_a_resource_of_our_stock_is_relabelled_for_its_next_owner_twice_is_once(tool: str) -> None:
    """P31."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    grant = provision(plugin)
    heir = names.make("test", "b2")
    assert plugin.assign(grant.resource_id, heir) == plugin.assign(grant.resource_id, heir)
    assert vendor.held() == {grant.resource_id: heir}
    assert vendor.works(grant)


# --- trouble


@every_vendor
def test_an_outage_is_unavailable_and_never_gone(tool: str) -> None:
    """P33."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    grant = provision(plugin)
    assert vendor.simulator is not None
    vendor.simulator.fail("*", "refuse", status=503, times=None)
    with pytest.raises(RemoteUnavailableError):
        provision(plugin, doubtful=True)
    with pytest.raises(RemoteUnavailableError):
        plugin.release(grant.resource_id)
    assert plugin.is_gone(grant.resource_id) is None


@every_vendor
def test_a_refusal_is_told_as_one_and_asked_once(tool: str) -> None:
    vendor = VENDORS[tool]()
    assert vendor.simulator is not None
    vendor.simulator.fail("*", "refuse", status=403, times=None)
    with pytest.raises(RemoteRefusedError):
        provision(vendor.plugin())
    assert len(vendor.simulator.operations()) == 1


@every_vendor
def test_a_wrong_key_is_refused(tool: str) -> None:
    vendor = VENDORS[tool]()
    environment = {name: "wrong" if value == OURS else value for name, value in vendor.environment.items()}
    plugin = Vendor(tool, environment, vendor.simulator, vendor.works, vendor.clock).plugin()
    with pytest.raises(RemoteRefusedError):
        provision(plugin)
    assert vendor.held() == {}


@pytest.mark.parametrize("body", ["<html>Please log in</html>", "", [], {}, {"data": None}], ids=repr)
@every_vendor
def test_an_answer_that_cannot_be_read_is_an_error_and_proves_nothing(tool: str, body: Any) -> None:
    """P38."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    grant = provision(plugin)
    assert vendor.simulator is not None
    vendor.simulator.fail("*", "refuse", status=200, body=body, times=None)
    with pytest.raises(RemoteError):
        provision(plugin, names.make("test", "c3"))
    assert plugin.is_gone(grant.resource_id) is None


@every_vendor
def test_a_log_in_page_is_no_confirmation_of_a_deletion(tool: str) -> None:
    """P25."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    grant = provision(plugin)
    assert vendor.simulator is not None
    vendor.simulator.fail("*", "refuse", status=200, body="<html>Please log in</html>", times=None)
    with pytest.raises(RemoteError):
        plugin.release(grant.resource_id)


# --- secrets


@every_tool
def test_no_secret_is_printed_in_a_grant_or_a_plugin_or_its_settings(tool: str) -> None:
    """P43."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    grant = provision(plugin)
    printed = f"{grant} {grant!r} {plugin} {load(PLUGINS[tool].kind.settings, vendor.environment)!r} {vars(plugin)}"
    assert OURS not in printed
    secrets = [reveal(value) for variable, value in grant.variables.items() if variable.endswith("_KEY")]
    assert not [secret for secret in secrets if secret in printed]


@every_vendor
def test_no_secret_and_no_vendors_word_is_in_an_error_or_a_log_line(tool: str, capfd: pytest.CaptureFixture[str]) -> None:
    """P43."""
    vendor = VENDORS[tool]()
    assert vendor.simulator is not None
    told: list[str] = []
    for status in (200, 400, 401, 409, 429, 500):
        vendor.simulator.heal()
        vendor.simulator.fail("*", "refuse", status=status, body={"key": "vendors-word", "code": "vendors-word"}, times=None)
        with pytest.raises(RemoteError) as caught:
            provision(vendor.plugin())
        told.append(f"{caught.value} {caught.value!r} {caught.value.details}")
    output = capfd.readouterr()
    for text in (*told, output.out, output.err):
        assert OURS not in text
        assert "vendors-word" not in text


@every_vendor
def test_no_secret_is_in_an_address(tool: str) -> None:
    """P43."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    provision(plugin)
    grant = provision(plugin, doubtful=True)
    plugin.release(grant.resource_id)
    assert vendor.simulator is not None
    secrets = {OURS} | {reveal(value) for name, value in grant.variables.items() if name.endswith("_KEY")}
    assert not [call for call in vendor.simulator.calls for value in call.arguments.values() if value in secrets]


# --- the inventory


@every_listing
def test_the_inventory_lists_what_is_ours_to_the_last_page_and_nothing_else(tool: str) -> None:
    """P26, P35. Bankr documents no listing."""
    vendor = VENDORS[tool]()
    plugin = vendor.plugin()
    ours = {(grant := provision(plugin, name)).resource_id: name for name in (names.make("test", f"i{n}") for n in range(30))}
    assert grant.resource_id
    provision(plugin, "somebody-elses")
    found = everything(plugin)
    assert {held.resource_id: held.name for held in found} == ours
    assert all(names.parse(held.name) is not None for held in found)
    assert all(held.created_at for held in found)


@pytest.mark.parametrize("tool", ["wallet", "crypto"])
def test_where_nothing_can_be_listed_the_inventory_is_one_empty_page(tool: str) -> None:
    plugin = VENDORS[tool]().plugin()
    provision(plugin)
    assert plugin.inventory(None).held == ()
    assert plugin.inventory(None).next_cursor is None


@every_listing
def test_an_inventory_that_breaks_off_is_an_error_never_a_short_list(tool: str) -> None:
    """P35."""
    vendor = VENDORS[tool]()
    assert vendor.simulator is not None
    vendor.simulator.fail("*", "refuse", status=502, times=None)
    with pytest.raises(RemoteUnavailableError):
        everything(vendor.plugin())
