"""Encryption of stored credentials with AES-256-GCM under a master key.

A sealed value is version (1 byte), key id (4), nonce (12), and ciphertext with tag. The context (an account's id) is
authenticated data, so that a value copied into another row cannot be opened. There may be several master keys, the
newest last: it seals, and all of them open. To rotate keys, add a key, seal all values again, then remove the old key.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app import files
from app.errors import GatewayError
from app.settings import Settings

_VERSION = 1
_KEY_BYTES = 32
_ID_BYTES = 4
_NONCE_BYTES = 12
_HEAD_BYTES = 1 + _ID_BYTES + _NONCE_BYTES
MASTER_KEY_FILE = "master.key"


class MasterKeyError(GatewayError):
    """The master key is missing, unreadable, or not the key that sealed the value."""

    code = "master_key_error"


class Vault:
    """Seals and opens small secrets."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys`: 32 bytes each, oldest first."""
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise MasterKeyError(f"A master key must be {_KEY_BYTES} bytes in base64")
        self._keys = {_key_id(key): key for key in keys}
        self._current = _key_id(keys[-1])

    @classmethod
    def of(cls, settings: Settings, needed: Collection[bytes] = ()) -> Vault:
        """The vault of this installation. The first start creates its key.

        `needed`: ids of keys that are in use. Raises MasterKeyError if one is missing: a lost key is not replaced.
        """
        path = settings.master_key_file or settings.data_dir / MASTER_KEY_FILE
        if settings.master_key is not None:
            vault, source = cls(_keys_of(settings.master_key.get_secret_value())), "POSTGATE_MASTER_KEY"
        else:
            if needed and not path.exists():
                raise MasterKeyError(f"{_names(needed)} is missing: there is no file {path}{_remedy(needed)}")
            vault, source = cls(_read_or_make(path)), str(path)
        if missing := set(needed) - vault._keys.keys():
            raise MasterKeyError(f"{_names(missing)} is missing from {source}{_remedy(missing)}")
        return vault

    def has(self, key_id: bytes) -> bool:
        """Whether the vault has the key with this id."""
        return key_id in self._keys

    @property
    def key_id(self) -> bytes:
        """The id of the newest key."""
        return self._current

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt a value. `open` needs the same context."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher = AESGCM(self._keys[self._current])
        return bytes((_VERSION,)) + self._current + nonce + cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt a value. Raises MasterKeyError if its key is missing, or the value was changed or moved."""
        key_id, nonce = sealed[1 : 1 + _ID_BYTES], sealed[1 + _ID_BYTES : _HEAD_BYTES]
        key = self._keys.get(key_id)
        if key is None or sealed[0] != _VERSION:
            raise MasterKeyError(f"A value is encrypted with the master key {key_id.hex()}, which is missing")
        try:
            return AESGCM(key).decrypt(nonce, sealed[_HEAD_BYTES:], context.encode())
        except InvalidTag:
            raise MasterKeyError("An encrypted value is damaged, or was copied from another record") from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether the value is sealed with the newest key."""
        return sealed[1 : 1 + _ID_BYTES] == self._current

    def signing_keys(self, purpose: str) -> tuple[bytes, ...]:
        """Signing keys for this purpose, derived from each master key, newest first."""
        ids = sorted(self._keys, key=lambda id_: id_ != self._current)
        return tuple(hmac.digest(self._keys[id_], b"postgate signing " + purpose.encode(), "sha256") for id_ in ids)


def _names(ids: Collection[bytes]) -> str:
    return f"The master key {' and '.join(sorted(id_.hex() for id_ in ids))}"


def _remedy(ids: Collection[bytes]) -> str:
    commands = " and ".join(f"`postgate forget-key {id_.hex()}`" for id_ in sorted(ids))
    return f". If it is permanently lost, {commands} deletes the values that it encrypted"


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"postgate key id" + key).digest()[:_ID_BYTES]


def _keys_of(text: str) -> list[bytes]:
    try:
        return [base64.b64decode(word, validate=True) for word in text.split()]
    except ValueError:
        raise MasterKeyError("The master key is not base64") from None


def _read_or_make(path: Path) -> list[bytes]:
    """The keys in a file, one per line. A missing file is created with a new key, readable only by its owner."""
    try:
        return _keys_of(path.read_text())
    except FileNotFoundError:
        files.make_directory(path.parent)
    except OSError as error:
        raise MasterKeyError(f"The master key file cannot be read: {error.strerror}") from None
    with contextlib.suppress(FileExistsError):  # another process may have created it first
        _write_new(path, base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
    return _keys_of(path.read_text())


def _write_new(path: Path, content: bytes) -> None:
    """Create a file atomically and durably. Raises FileExistsError."""
    temporary = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    try:
        with files.create(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    files.sync_directory(path.parent)
