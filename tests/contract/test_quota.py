"""Quotas of an account that has no limits."""

from __future__ import annotations

import pytest

from tests.contract.mail_account import MailAccount

WITH_QUOTA = {"own-imap", "cyrus", "courier"}
"""The kinds whose servers have the extension (RFC 9208)."""


async def test_a_server_with_the_quota_extension_has_an_empty_list_and_another_none(
    account: MailAccount, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["account"]

    assert await account.backend.quotas() == ([] if kind in WITH_QUOTA else None)
