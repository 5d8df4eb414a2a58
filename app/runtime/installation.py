"""Opens the vault with the master key of an installation."""

from __future__ import annotations

import asyncio

from app.db import installation
from app.db.installation import Installation
from app.db.session import Database, Transaction
from app.security.vault import Vault
from app.settings import Settings


async def open_vault(settings: Settings, database: Database, record: Installation) -> Vault:
    """Open the vault. Raises MasterKeyError if a key that encrypts secrets is missing: it is never replaced."""
    needed = await installation.sealing_keys(database)
    if record.key_id and settings.database_url is None:
        # it signed states; processes that share PostgreSQL may have different keys until they encrypt secrets
        needed.add(bytes.fromhex(record.key_id))
    vault = await asyncio.to_thread(Vault.of, settings, needed)
    key_id = vault.key_id.hex()

    async def work(transaction: Transaction) -> None:
        await installation.set_key(transaction, key_id)

    if key_id != record.key_id:
        await database.write(work)
    return vault
