"""Recovers an installation whose master key is permanently lost."""

from __future__ import annotations

import asyncio

from app.db import installation, lost_keys, transfer
from app.db.lost_keys import Forgotten
from app.db.migrate import open_database
from app.db.ownership import sole_use
from app.db.session import Database, Transaction
from app.security.vault import MasterKeyError, Vault
from app.services.oauth.grants import sealed_tokens
from app.settings import Settings


def forget_key(settings: Settings, key_id: bytes) -> Forgotten:
    """Delete secrets that a lost master key encrypted, and use the present key or a new one. Blocks.

    Raises MasterKeyError if no secret needs the key or the key is present, and DataInUse while a server is running.
    Then nothing is changed.
    """
    with sole_use(settings):
        if settings.database_url is not None:
            asyncio.run(transfer.refuse_others(settings.database_url))
        return asyncio.run(_forget(settings, key_id))


async def _forget(settings: Settings, key_id: bytes) -> Forgotten:
    database = await open_database(settings, is_sole=True)
    try:
        if key_id not in await _needed(database):
            raise MasterKeyError(f"Nothing is encrypted with the master key {key_id.hex()}")
        vault = await asyncio.to_thread(Vault.of, settings)
        if vault.has(key_id):
            raise MasterKeyError(f"The master key {key_id.hex()} is not lost: nothing was deleted")

        async def work(transaction: Transaction) -> Forgotten:
            await installation.set_key(transaction, vault.key_id.hex())
            return await lost_keys.forget(transaction, key_id, lambda grant_id: sealed_tokens(vault, grant_id, "", ""))

        return await database.write(work)
    finally:
        await database.close()


async def _needed(database: Database) -> set[bytes]:
    known = await installation.read(database)
    signing = {bytes.fromhex(known.key_id)} if known is not None and known.key_id else set()
    return await installation.sealing_keys(database) | signing
