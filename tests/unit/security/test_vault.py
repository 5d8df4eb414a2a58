from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from app.security.vault import MASTER_KEY_FILE, MasterKeyError, Vault
from app.settings import Settings
from pydantic import SecretStr

OLD, NEW = bytes(32), bytes(range(32))


def test_what_is_sealed_opens_again_and_is_not_in_clear() -> None:
    vault = Vault([NEW])

    sealed = vault.seal(b"canary-password", "acc_ann")

    assert b"canary" not in sealed
    assert vault.open(sealed, "acc_ann") == b"canary-password"
    assert vault.seal(b"canary-password", "acc_ann") != sealed


def test_a_sealed_value_does_not_open_in_another_place() -> None:
    vault = Vault([NEW])

    with pytest.raises(MasterKeyError, match="copied from another record"):
        vault.open(vault.seal(b"x", "acc_ann"), "acc_bob")


def test_a_changed_byte_is_noticed_wherever_it_is() -> None:
    vault = Vault([NEW])
    sealed = vault.seal(b"secret", "acc_ann")

    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        with pytest.raises(MasterKeyError):
            vault.open(bytes(damaged), "acc_ann")


def test_a_lost_key_is_named() -> None:
    with pytest.raises(MasterKeyError, match=r"master key [0-9a-f]{8}, which is missing"):
        Vault([NEW]).open(Vault([OLD]).seal(b"x", "a"), "a")


def test_keys_rotate() -> None:
    sealed = Vault([OLD]).seal(b"x", "a")
    both = Vault([OLD, NEW])

    assert both.open(sealed, "a") == b"x"
    assert not both.is_current(sealed)
    anew = both.seal(both.open(sealed, "a"), "a")
    assert both.is_current(anew)
    assert Vault([NEW]).open(anew, "a") == b"x"


def test_the_first_start_makes_a_key_that_its_owner_alone_can_read(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")

    sealed = Vault.of(settings).seal(b"x", "a")

    path = tmp_path / "data" / MASTER_KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Vault.of(settings).open(sealed, "a") == b"x"
    assert [one.name for one in path.parent.iterdir()] == [MASTER_KEY_FILE]


def test_a_key_comes_from_the_environment_or_another_file(tmp_path: Path) -> None:
    text = base64.b64encode(NEW).decode()
    (tmp_path / "key").write_text(base64.b64encode(OLD).decode() + "\n" + text + "\n")

    by_value = Vault.of(Settings(data_dir=tmp_path, master_key=SecretStr(text)))
    by_file = Vault.of(Settings(data_dir=tmp_path, master_key_file=tmp_path / "key"))

    assert by_file.open(by_value.seal(b"x", "a"), "a") == b"x"
    assert by_value.open(by_file.seal(b"x", "a"), "a") == b"x"
    assert not (tmp_path / MASTER_KEY_FILE).exists()


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "é" * 44])
def test_a_key_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)

    with pytest.raises(MasterKeyError):
        Vault.of(Settings(data_dir=tmp_path, master_key_file=tmp_path / "key"))


def test_each_purpose_has_its_own_signing_key() -> None:
    vault = Vault([OLD, NEW])

    states, others = vault.signing_keys("states"), vault.signing_keys("others")

    assert len({*states, *others, OLD, NEW}) == 6
    assert states[0] == Vault([NEW]).signing_keys("states")[0]


def test_a_key_that_is_in_use_is_never_replaced_when_its_file_is_lost(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    lost = Vault([OLD]).key_id

    with pytest.raises(MasterKeyError, match=f"{lost.hex()} is missing: there is no file"):
        Vault.of(settings, {lost})
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_is_in_use_and_not_among_those_given_is_named_with_its_source(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(base64.b64encode(NEW).decode())
    lost = Vault([OLD]).key_id
    by_file = Settings(data_dir=tmp_path, master_key_file=tmp_path / "key")
    by_value = Settings(data_dir=tmp_path, master_key=SecretStr(base64.b64encode(NEW).decode()))

    for settings, source in ((by_file, str(tmp_path / "key")), (by_value, "POSTGATE_MASTER_KEY")):
        with pytest.raises(MasterKeyError, match=f"{lost.hex()} is missing from {source}"):
            Vault.of(settings, {lost})
        Vault.of(settings, {Vault([NEW]).key_id})
