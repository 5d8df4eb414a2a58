"""`postgate seal`, `forget-key`, `backup` and `restore`: the data of a whole installation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.environment import read_settings
from app.cli.install import on_services
from app.cli.outcome import USAGE, complain, fail

if TYPE_CHECKING:
    from app.api.deps import Services


def seal() -> None:
    """Encrypt all credentials with the newest master key: the last one in the key file or the setting."""
    accounts, apps, grants = on_services(_reseal)
    print(f"{accounts} accounts, {apps} OAuth apps and {grants} grants are encrypted with the newest master key")


async def _reseal(services: Services) -> tuple[int, int, int]:
    return (
        await services.accounts.seal_anew(),
        await services.oauth_apps.seal_anew(),
        await services.grants.seal_anew(),
    )


def forget_key(
    key: Annotated[str, typer.Argument(help="The id of the key, printed by the failed start.")],
) -> None:
    """Delete what a lost master key encrypted. Stop the server first. Owners must then log in again."""
    from app.runtime import lost_keys

    try:
        key_id = bytes.fromhex(key)
    except ValueError:
        fail("the id of a key has 8 hexadecimal digits", code=USAGE)
    forgotten = lost_keys.forget_key(read_settings(), key_id)
    print(f"{forgotten.accounts} accounts need a new login, {forgotten.apps} OAuth apps need their client secret again")


def backup(target: Path) -> None:
    """Write a backup to a new directory: database and messages, without the master key. A server may be running."""
    from app.mailstore.backup import back_up

    result = back_up(read_settings(), target)
    print(f"{result.blobs} blobs of {result.blob_bytes} bytes and the database are in {target}")
    for name in result.missing:
        complain(f"blob {name} is missing from the store")


def restore(
    source: Annotated[Path | None, typer.Argument(help="The directory of the backup.")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="The database was restored by other means.")] = False,
) -> None:
    """Restore a backup. Stop the server first. Mailboxes get new UIDVALIDITYs; unsent submissions become uncertain."""
    from app.mailstore import restore as restoring

    settings = read_settings()
    if (source is None) is not in_place:
        fail("name the folder of a backup, or give --in-place", code=USAGE)
    changed = restoring.restore_in_place(settings) if source is None else restoring.restore(settings, source)
    print(
        f"{changed.accounts} accounts are restored, {changed.mailboxes} mailboxes have a new UIDVALIDITY, "
        f"{changed.uncertain} submissions may have been sent and are uncertain"
    )
