"""A wallet of its own for every instance: an Ethereum key pair, made here. There is no vendor and nothing to release.

The private key exists in the returned grant only; the caller encrypts and keeps it. The libraries are imported with the first
pair, because only the function that makes wallets needs them.
"""

from __future__ import annotations

from typing import ClassVar

import httpx
from pydantic import SecretStr

from shared.remote import Retry
from shared.services.plugins.base import Grant, Page
from shared.settings import Settings


class WalletSettings(Settings):
    """A wallet needs no setting."""


class Wallet:
    """A plugin; see `Plugin`. Every call makes a new pair: until the caller has stored one, nobody has used it."""

    tool: ClassVar[str] = "wallet"
    title: ClassVar[str] = "Ethereum wallet"
    always: ClassVar[bool] = True
    reusable: ClassVar[bool] = False
    variables: ClassVar[tuple[str, ...]] = ("PRIVATE_WALLET_KEY",)
    settings: ClassVar[type[WalletSettings]] = WalletSettings

    @classmethod
    def build(cls, settings: WalletSettings, *, transport: httpx.BaseTransport | None = None, retry: Retry = Retry()) -> Wallet:
        """Return the plugin; *transport* and *retry* are for plugins with a vendor."""
        return cls()

    def provision(self, name: str, *, attempt: int, doubtful: bool) -> Grant:
        """Make a new key pair. The resource is its address."""
        from cryptography.hazmat.primitives.asymmetric import ec

        number = ec.generate_private_key(ec.SECP256K1()).private_numbers().private_value
        return Grant(address_of(number), {"PRIVATE_WALLET_KEY": SecretStr(f"0x{number:064x}")})

    def assign(self, resource_id: str, name: str) -> Grant:
        """Never asked: a wallet is not reusable."""
        raise NotImplementedError("a wallet is not reusable")

    def release(self, resource_id: str) -> None:
        """Nothing is held anywhere else."""

    def find(self, name: str) -> str | None:
        """No vendor holds anything."""
        return None

    def is_gone(self, resource_id: str) -> bool | None:
        """Nobody else knows a wallet, so it is gone as soon as the caller forgets it."""
        return True

    def inventory(self, cursor: str | None) -> Page:
        """No vendor holds anything."""
        return Page((), None)


def address_of(private_number: int) -> str:
    """Return the address of a private key, with the checksum of EIP-55 in its letters' case."""
    from cryptography.hazmat.primitives.asymmetric import ec

    public = ec.derive_private_key(private_number, ec.SECP256K1()).public_key().public_numbers()
    point = public.x.to_bytes(32, "big") + public.y.to_bytes(32, "big")
    return with_checksum(_keccak(point)[-20:].hex())


def with_checksum(address: str) -> str:
    """Return an address of 40 lower-case hex digits as EIP-55 writes it: a digit's case repeats four bits of its hash."""
    nibbles = _keccak(address.encode()).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit for digit, nibble in zip(address, nibbles, strict=False)
    )


def _keccak(data: bytes) -> bytes:
    """Keccak-256 as Ethereum uses it, which differs from the later SHA3-256 in its padding."""
    from Crypto.Hash import keccak

    return bytes(keccak.new(digest_bits=256, data=data).digest())
