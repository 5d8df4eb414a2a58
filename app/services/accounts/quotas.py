"""An account's quotas and use: as its server reports them, else as the index counts."""

from __future__ import annotations

from collections.abc import Sequence

from app.db.session import Database
from app.mail.backend import Backends, Quota, QuotaResource
from app.mail.types import AccountId
from app.mailstore.usage import usage_of
from app.services.access.callers import Caller


class Quotas:
    """Quotas of all accounts."""

    def __init__(self, database: Database, backends: Backends) -> None:
        self._database = database
        self._backends = backends

    async def of(self, account_id: AccountId, caller: Caller) -> tuple[str, Sequence[Quota]]:
        """Return the source of the counts, "origin" or "index", and the quotas. Raises MailServerError.

        A caller that is limited to mailboxes gets the use of these, as the index counts it.
        """
        if caller.mailbox_ids is None:
            reported = await (await self._backends.of(account_id)).quotas()
            if reported is not None:
                return "origin", reported
        count, size_bytes = await usage_of(self._database, account_id, caller.mailbox_ids)
        counted = ((QuotaResource.STORAGE, size_bytes), (QuotaResource.MESSAGE, count))
        return "index", [Quota("", resource, used, None) for resource, used in counted]
