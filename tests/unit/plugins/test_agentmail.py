"""What only AgentMail does: inboxes that are idempotent by name, and keys that reach one inbox."""

from __future__ import annotations

import httpx
import pytest

from infra.local.simulators.agentmail import AgentMailSimulator
from shared.errors import RemoteError, RemoteRefusedError
from shared.remote import NO_RETRY, Retry
from shared.services import names
from shared.services.plugins.agentmail import AgentMail, AgentMailSettings
from shared.services.plugins.base import NAME_SPENT
from shared.settings import load, reveal

NAME = names.make("test", "a1")
ENVIRONMENT = {"AGENTMAIL_API_URL": "http://vendor/v0", "AGENTMAIL_API_KEY": "organization"}


def plugin(simulator: AgentMailSimulator, *, retry: Retry = NO_RETRY, **settings: str) -> AgentMail:
    loaded = load(AgentMailSettings, {**ENVIRONMENT, **settings})
    return AgentMail.build(loaded, transport=httpx.WSGITransport(simulator), retry=retry)


def get(simulator: AgentMailSimulator, path: str, key: str) -> int:
    with httpx.Client(transport=httpx.WSGITransport(simulator), base_url="http://vendor") as client:
        return client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_first_inbox_is_two_calls() -> None:
    simulator = AgentMailSimulator(api_key="organization")
    plugin(simulator).provision(NAME, attempt=1, doubtful=False)
    assert simulator.operations() == ["create_inbox", "create_key"]


def test_an_inbox_is_made_in_the_domain_of_the_settings() -> None:
    simulator = AgentMailSimulator(api_key="organization", domains=("mail.example",))
    grant = plugin(simulator, AGENTMAIL_DOMAIN="mail.example").provision(NAME, attempt=1, doubtful=False)
    assert reveal(grant.variables["AGENTMAIL_EMAIL"]).endswith("@mail.example")


def test_a_domain_that_is_not_verified_is_a_refusal() -> None:
    simulator = AgentMailSimulator(api_key="organization")
    with pytest.raises(RemoteRefusedError) as caught:
        plugin(simulator, AGENTMAIL_DOMAIN="mail.example").provision(NAME, attempt=1, doubtful=False)
    assert caught.value.remote_code == "domain_not_verified"
    assert simulator.inventory() == {}


def test_an_instances_key_reads_its_own_inbox_and_nothing_else() -> None:
    """P42."""
    simulator = AgentMailSimulator(api_key="organization")
    vendor = plugin(simulator)
    mine, other = (vendor.provision(names.make("test", who), attempt=1, doubtful=False) for who in ("a1", "b2"))
    key = reveal(mine.variables["AGENTMAIL_API_KEY"])
    assert get(simulator, f"/v0/inboxes/{mine.resource_id}", key) == 200
    assert get(simulator, f"/v0/inboxes/{other.resource_id}", key) == 404
    assert get(simulator, f"/v0/inboxes/{mine.resource_id}/api-keys", key) == 403
    assert get(simulator, "/v0/inboxes", key) == 403


def test_an_instances_key_may_make_no_key_no_inbox_and_no_webhook() -> None:
    """P42."""
    simulator = AgentMailSimulator(api_key="organization")
    plugin(simulator).provision(NAME, attempt=1, doubtful=False)
    (permissions,) = [key["permissions"] for key in simulator._keys.values()]
    granted = {permission for permission, given in permissions.items() if given}
    assert {"inbox_read", "message_read", "message_send"} <= granted
    assert not [permission for permission in granted if permission.startswith(("api_key_", "webhook_", "domain_", "pod_"))]
    assert not granted & {"inbox_create", "inbox_delete"}


def test_the_key_of_a_deleted_inbox_opens_nothing() -> None:
    simulator = AgentMailSimulator(api_key="organization")
    vendor = plugin(simulator)
    grant = vendor.provision(NAME, attempt=1, doubtful=False)
    vendor.release(grant.resource_id)
    assert get(simulator, f"/v0/inboxes/{grant.resource_id}", reveal(grant.variables["AGENTMAIL_API_KEY"])) == 401


def test_a_lost_key_stops_working_when_it_is_replaced() -> None:
    simulator = AgentMailSimulator(api_key="organization")
    vendor = plugin(simulator)
    lost, found = (vendor.provision(NAME, attempt=1, doubtful=doubtful) for doubtful in (False, True))
    assert lost.resource_id == found.resource_id
    path = f"/v0/inboxes/{found.resource_id}"
    assert get(simulator, path, reveal(lost.variables["AGENTMAIL_API_KEY"])) == 401
    assert get(simulator, path, reveal(found.variables["AGENTMAIL_API_KEY"])) == 200


def test_a_name_whose_inbox_the_vendor_no_longer_has_is_spent() -> None:
    """What a used `client_id` does is not documented: should the vendor answer with the deleted inbox, we ask for a new name."""
    for operation, doubtful in (("create_key", False), ("list_keys", True)):
        simulator = AgentMailSimulator(api_key="organization")
        simulator.fail(operation, "refuse", status=404)
        with pytest.raises(RemoteRefusedError) as caught:
            plugin(simulator).provision(NAME, attempt=1, doubtful=doubtful)
        assert caught.value.code == NAME_SPENT


def test_a_deletion_that_is_under_way_already_is_success() -> None:
    simulator = AgentMailSimulator(api_key="organization")
    vendor = plugin(simulator)
    grant = vendor.provision(NAME, attempt=1, doubtful=False)
    simulator.fail("delete_inbox", "refuse", status=409, body={"name": "x", "code": "resource_deleting", "message": "x"})
    vendor.release(grant.resource_id)
    assert vendor.is_gone(grant.resource_id) is False


def test_an_inventory_of_several_pages_is_read_to_the_end_in_as_many_calls() -> None:
    """P34, P35."""
    simulator = AgentMailSimulator(api_key="organization")
    vendor = plugin(simulator)
    for number in range(201):
        vendor.provision(names.make("test", f"n{number}"), attempt=1, doubtful=False)
    cursor: str | None = None
    found: list[str] = []
    while True:
        page = vendor.inventory(cursor)
        found += [held.resource_id for held in page.held]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(found) == sorted(simulator.inventory())
    assert simulator.operations().count("list_inboxes") == 3


def test_a_listing_that_leads_back_to_itself_is_an_error_and_not_an_endless_loop() -> None:
    simulator = AgentMailSimulator(api_key="organization")
    body = {"count": 0, "inboxes": [], "next_page_token": "again"}
    simulator.fail("list_inboxes", "refuse", status=200, body=body, times=None)
    vendor = plugin(simulator)
    cursor = vendor.inventory(None).next_cursor
    with pytest.raises(RemoteError, match="same page twice"):
        vendor.inventory(cursor)
