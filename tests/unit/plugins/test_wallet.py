"""Key pairs are real: addresses agree with published ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.services.plugins.wallet import Wallet, WalletSettings, address_of, with_checksum
from shared.settings import reveal

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.mark.parametrize(
    ("private", "address"),
    [
        (1, "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"),
        (2, "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"),
        (3, "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"),
        (0x4C0883A69102937D6231471B5DBB6204FE5129617082792AE468D01A3F362318, "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"),
        (0xAC0974BEC39A17E36BA4A6B4D238FF944BACB478CBED5EFCAE784D7BF4F2FF80, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    ],
)
def test_an_address_follows_from_its_key(private: int, address: str) -> None:
    assert address_of(private) == address


@pytest.mark.parametrize(
    "address",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
    ],
)
def test_the_checksum_is_the_one_of_eip_55(address: str) -> None:
    assert with_checksum(address[2:].lower()) == address


@settings(max_examples=20, deadline=None)
@given(st.integers(1, ORDER - 1))
def test_every_key_has_an_address(private: int) -> None:
    assert address_of(private).startswith("0x")
    assert len(address_of(private)) == 42


def test_a_grant_is_a_key_and_its_own_address() -> None:
    grant = Wallet.build(WalletSettings()).provision("convos-agent-test-a1", attempt=1, doubtful=False)
    key = reveal(grant.variables["PRIVATE_WALLET_KEY"])
    assert len(key) == 66
    assert address_of(int(key, 16)) == grant.resource_id


def test_no_two_instances_share_a_wallet() -> None:
    wallet = Wallet.build(WalletSettings())
    grants = [wallet.provision("convos-agent-test-a1", attempt=1, doubtful=True) for _ in range(20)]
    assert len({grant.resource_id for grant in grants}) == 20
