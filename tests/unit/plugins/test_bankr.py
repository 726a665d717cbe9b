"""What only Bankr does: a repeated creation without the key, and wallets that are closed rather than deleted."""

from __future__ import annotations

import httpx
import pytest

from infra.local.simulators.bankr import BankrSimulator
from shared.errors import RemoteRefusedError, RemoteUnavailableError
from shared.remote import NO_RETRY
from shared.services import names
from shared.services.plugins.bankr import Bankr, BankrSettings
from shared.services.plugins.base import NAME_SPENT
from shared.settings import load, reveal

NAME = names.make("test", "a1")
ENVIRONMENT = {"BANKR_API_URL": "http://vendor", "BANKR_API_KEY": "partner"}


def plugin(simulator: BankrSimulator, **settings: str) -> Bankr:
    loaded = load(BankrSettings, {**ENVIRONMENT, **settings})
    return Bankr.build(loaded, transport=httpx.WSGITransport(simulator), retry=NO_RETRY)


def test_a_first_wallet_is_one_call() -> None:
    simulator = BankrSimulator(partner_key="partner")
    plugin(simulator).provision(NAME, attempt=1, doubtful=False)
    assert simulator.operations() == ["create_wallet"]


@pytest.mark.parametrize(("setting", "read_only"), [({}, True), ({"BANKR_READ_ONLY": "false"}, False)])
def test_a_key_may_only_look_unless_the_settings_say_otherwise(setting: dict[str, str], *, read_only: bool) -> None:
    """P42. It holds for the first key and for one minted later."""
    simulator = BankrSimulator(partner_key="partner")
    vendor = plugin(simulator, **setting)
    for doubtful in (False, True):
        vendor.provision(NAME, attempt=1, doubtful=doubtful)
        (key,) = simulator.keys()
        assert key["permissions"] == {
            "agentApiEnabled": True,
            "llmGatewayEnabled": False,
            "tokenLaunchApiEnabled": False,
            "readOnly": read_only,
        }


def test_a_second_provision_is_the_same_wallet_with_a_new_key_and_the_old_key_is_dead() -> None:
    simulator = BankrSimulator(partner_key="partner")
    vendor = plugin(simulator)
    first, second = (vendor.provision(NAME, attempt=1, doubtful=doubtful) for doubtful in (False, True))
    assert first.resource_id == second.resource_id
    assert reveal(first.variables["BANKR_API_KEY"]) != reveal(second.variables["BANKR_API_KEY"])
    assert len(simulator.keys()) == 1


def test_a_wallet_that_is_still_being_made_is_asked_for_later() -> None:
    simulator = BankrSimulator(partner_key="partner")
    simulator.fail("create_wallet", "refuse", status=409)
    with pytest.raises(RemoteUnavailableError):
        plugin(simulator).provision(NAME, attempt=1, doubtful=False)


def test_the_name_of_a_closed_wallet_is_spent() -> None:
    simulator = BankrSimulator(partner_key="partner")
    vendor = plugin(simulator)
    vendor.release(vendor.provision(NAME, attempt=1, doubtful=False).resource_id)
    with pytest.raises(RemoteRefusedError) as caught:
        vendor.provision(NAME, attempt=1, doubtful=True)
    assert caught.value.code == NAME_SPENT


def test_a_release_revokes_the_keys_and_closes_the_wallet() -> None:
    simulator = BankrSimulator(partner_key="partner")
    vendor = plugin(simulator)
    vendor.release(vendor.provision(NAME, attempt=1, doubtful=False).resource_id)
    assert simulator.keys() == []
    assert simulator.inventory() == {}
    assert simulator.operations()[1:] == ["revoke_keys", "close_wallet"]


def test_a_wallet_that_the_vendor_does_not_know_is_gone() -> None:
    vendor = plugin(BankrSimulator(partner_key="partner"))
    assert vendor.is_gone("wlt_unknown") is True
    vendor.release("wlt_unknown")


def test_a_refused_closing_of_a_living_wallet_is_told() -> None:
    """P25."""
    simulator = BankrSimulator(partner_key="partner")
    vendor = plugin(simulator)
    grant = vendor.provision(NAME, attempt=1, doubtful=False)
    simulator.fail("close_wallet", "refuse", status=403)
    with pytest.raises(RemoteRefusedError):
        vendor.release(grant.resource_id)


def test_an_answer_without_a_status_tells_nothing() -> None:
    """P33."""
    simulator = BankrSimulator(partner_key="partner")
    vendor = plugin(simulator)
    grant = vendor.provision(NAME, attempt=1, doubtful=False)
    simulator.fail("get_wallet", "refuse", status=200, body={"id": grant.resource_id})
    assert vendor.is_gone(grant.resource_id) is None
