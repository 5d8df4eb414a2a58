"""Reads the quotas of an account by the QUOTA extension (RFC 9208)."""

from __future__ import annotations

from collections.abc import Sequence

from app.backends.imap.session import ClientSession
from app.mail import backend
from app.mail.backend import QuotaResource
from app.wire.imap import commands
from app.wire.imap.responses import Quota

MAX_ROOTS = 20
KIB = 1024

_RESOURCES = {"STORAGE": (QuotaResource.STORAGE, KIB), "MESSAGE": (QuotaResource.MESSAGE, 1)}


async def quotas_of(session: ClientSession) -> Sequence[backend.Quota] | None:
    """The quotas that apply to INBOX, each root once. None if the server has no QUOTA or refuses the command."""
    if not any(name == "QUOTA" or name.startswith("QUOTA=") for name in session.protocol.offered):
        return None
    completion = (await session.run(commands.quota_root("INBOX", is_utf8=session.is_utf8)))[0]
    if completion.status != "OK":
        return None
    roots = {
        response.root: response.resources
        for response in session.parsed(completion, is_strict=True)
        if isinstance(response, Quota)
    }
    return [
        backend.Quota(root, kind, used * unit, limit * unit)
        for root, resources in list(roots.items())[:MAX_ROOTS]
        for name, (kind, unit) in _RESOURCES.items()
        if name in resources
        for used, limit in [resources[name]]
    ]
