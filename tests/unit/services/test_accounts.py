from __future__ import annotations

from pathlib import Path

from app.mail.types import AccountKind, ServerLogin, TransportSecurity
from app.security.vault import Vault
from app.services.accounts import NewAccount, Servers

from tests.gateway import MASTER_KEY, files_holding, open_gateway

IMAP = ServerLogin("93.184.216.34", 993, TransportSecurity.TLS, "me", "canary-imap")
SMTP = ServerLogin("93.184.216.34", 465, TransportSecurity.TLS, "me", "canary-smtp")


async def test_check_19_passwords_are_not_in_clear_on_disk(tmp_path: Path) -> None:
    async with open_gateway(tmp_path) as gateway:
        accounts = gateway.services.accounts
        remote = await accounts.add(NewAccount(AccountKind.IMAP, "me@example.com", servers=Servers(IMAP, SMTP)))
        await accounts.add(NewAccount(AccountKind.EMBEDDED, "ann@demo.test", password="canary-own"))

        assert (await accounts.servers(remote.id))[1] == Servers(IMAP, SMTP)
        assert not files_holding(tmp_path, b"canary")
    assert not files_holding(tmp_path, b"canary")


async def test_credentials_are_sealed_anew_under_a_new_master_key(tmp_path: Path) -> None:
    new_key = bytes(32)
    async with open_gateway(tmp_path) as gateway:
        accounts = gateway.services.accounts
        remote = await accounts.add(NewAccount(AccountKind.IMAP, "me@example.com", servers=Servers(IMAP, SMTP)))

        accounts._vault = Vault([MASTER_KEY, new_key])
        assert (await accounts.seal_anew(), await accounts.seal_anew()) == (1, 0)

        accounts._vault = Vault([new_key])
        assert (await accounts.servers(remote.id))[1].imap == IMAP
