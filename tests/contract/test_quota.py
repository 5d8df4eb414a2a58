from __future__ import annotations

from tests.contract.mail_account import MailAccount


async def test_limits_are_told_or_it_is_said_that_nobody_tells_them(account: MailAccount) -> None:
    found = await account.backend.quotas()

    assert found is None or all(one.used >= 0 and (one.limit is None or one.limit >= 0) for one in found)
