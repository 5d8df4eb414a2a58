"""The master key that an installation's secrets are sealed with."""

from __future__ import annotations

import asyncio

from app.db import installation
from app.db.installation import Installation
from app.db.session import Database, Transaction
from app.security.vault import Vault
from app.settings import Settings


async def open_vault(settings: Settings, database: Database, known: Installation) -> Vault:
    """The vault. MasterKeyError where a key that secrets are sealed with is not here: it is never replaced."""
    needed = await installation.sealing_keys(database)
    if known.key_id and settings.database_url is None:
        # it signed states; processes that share a PostgreSQL may have keys of their own as long as they seal nothing
        needed.add(bytes.fromhex(known.key_id))
    vault = await asyncio.to_thread(Vault.of, settings, needed)
    key_id = vault.key_id.hex()

    async def work(transaction: Transaction) -> None:
        await installation.set_key(transaction, key_id)

    if key_id != known.key_id:
        await database.write(work)
    return vault
