"""Secrets at rest: what we keep for instances is encrypted with a key from the settings, and never printed.

A ring is `id:base64(32 bytes)[,…]`: the first key seals, all of them unseal, so a key is rotated by putting the new one in
front, resealing what `needs_reseal` names, and dropping the old one. A sealed text is `v1.<key id>.<nonce and ciphertext>`
(AES-256-GCM, base64url); it is bound to its instance and column, so a value copied to another row cannot be read there.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

from shared.errors import AppError, SettingsError
from shared.settings import reveal

SETTING = "INSTANCE_SECRETS_KEY"
_VERSION = "v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_ID = re.compile(r"^[A-Za-z0-9_-]{1,32}$")


class Ring:
    """The keys in force. Safe to share between threads; shows only the ids of its keys."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        """*keys* by id, in order: the first one seals."""
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._first = next(iter(keys))

    def __repr__(self) -> str:
        return f"Ring({', '.join(self._ciphers)})"

    def seal(self, secret: SecretStr, *, instance_id: str, column: str) -> str:
        """Return *secret* encrypted with the first key, readable only as this column of this instance."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = nonce + self._ciphers[self._first].encrypt(nonce, reveal(secret).encode(), _bound_to(instance_id, column))
        return f"{_VERSION}.{self._first}.{base64.urlsafe_b64encode(sealed).decode()}"

    def unseal(self, sealed: str, *, instance_id: str, column: str) -> SecretStr:
        """Return the secret, or raise: SettingsError when its key left the ring, AppError when it is not what was sealed."""
        version, key_id, raw = _parts(sealed)
        cipher = self._ciphers.get(key_id)
        if version != _VERSION or cipher is None:
            raise SettingsError(f"{SETTING} lacks the key {key_id[:32]!r}, with which a stored secret was sealed.")
        try:
            clear = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound_to(instance_id, column))
        except (InvalidTag, ValueError):
            raise AppError(f"The stored secret {column!r} of this instance cannot be read: it was altered or moved.") from None
        return SecretStr(clear.decode())

    def needs_reseal(self, sealed: str) -> bool:
        """Whether *sealed* was made with another key than the first one."""
        return _parts(sealed)[:2] != (_VERSION, self._first)


def parse_ring(text: SecretStr) -> Ring:
    """Read a ring from its setting, or raise SettingsError naming it; no part of a key is quoted."""
    keys: dict[str, bytes] = {}
    for entry in filter(None, (part.strip() for part in reveal(text).split(","))):
        key_id, _, encoded = entry.partition(":")
        if not _KEY_ID.match(key_id) or not encoded:
            raise SettingsError(f"{SETTING} is malformed: each entry is an id, a colon and a base64 key.")
        if key_id in keys:
            raise SettingsError(f"{SETTING} names the id {key_id!r} twice.")
        keys[key_id] = _key(key_id, encoded)
    if not keys:
        raise SettingsError(f"{SETTING} holds no key.")
    if len(set(keys.values())) != len(keys):
        raise SettingsError(f"{SETTING} holds the same key under two ids.")
    return Ring(keys)


def _key(key_id: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{SETTING} is malformed: the key {key_id!r} is not base64.") from None
    if len(key) != _KEY_BYTES:
        raise SettingsError(f"{SETTING} is malformed: the key {key_id!r} has {len(key)} bytes instead of {_KEY_BYTES}.")
    return key


def _parts(sealed: str) -> tuple[str, str, bytes]:
    version, _, rest = sealed.partition(".")
    key_id, _, encoded = rest.partition(".")
    try:
        return version, key_id, base64.urlsafe_b64decode(encoded)
    except (binascii.Error, ValueError):
        raise AppError("A stored secret is damaged.") from None


def _bound_to(instance_id: str, column: str) -> bytes:
    return f"{instance_id}\n{column}".encode()
