"""A harness with Ann and Bob, and a client at each role of the SMTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from app.servers.smtp import ListenerRole, SmtpConversation, SmtpSite
from app.servers.smtp.unconfirmed import Unconfirmed

from tests.harness import Harness, open_harness
from tests.unit.servers.talk import Talk, local_peer

LIMIT = 400_000
"""Bytes of a message."""

Visit = Callable[..., Talk]


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        await harness.add_account("ann@demo.test")
        await harness.add_account("bob@demo.test")
        yield harness


@pytest.fixture
def visit(harness: Harness) -> Visit:
    """Begins a talk with a role."""
    unconfirmed = Unconfirmed()

    def begin(
        role: ListenerRole, address: str = "127.0.0.1", *, is_encrypted: bool = False, can_start_tls: bool = True
    ) -> Talk:
        peer = local_peer(address=address, is_encrypted=is_encrypted, can_start_tls=can_start_tls)
        site = SmtpSite(role, "mail.demo.test", harness.deliveries, harness.logins, LIMIT, unconfirmed=unconfirmed)
        return Talk(SmtpConversation(peer, site), peer)

    return begin


@pytest.fixture
async def mx(visit: Visit) -> Talk:
    """A stranger who has said EHLO."""
    talk = visit(ListenerRole.MX)
    await talk.say(b"EHLO there.example\r\n")
    return talk


@pytest.fixture
async def lmtp(visit: Visit) -> Talk:
    talk = visit(ListenerRole.LMTP)
    await talk.say(b"LHLO front.example\r\n")
    return talk


@pytest.fixture
async def ann(visit: Visit) -> Talk:
    """Ann, logged in for submission."""
    return await log_in(visit)


async def log_in(visit: Visit) -> Talk:
    """A session of Ann."""
    talk = visit(ListenerRole.SUBMISSION)
    answer = await talk.say(b"EHLO laptop.example\r\nAUTH PLAIN AGFubkBkZW1vLnRlc3QAc2VjcmV0\r\n")
    assert answer.endswith(b"235 2.7.0 Welcome\r\n")
    return talk


async def inbox(harness: Harness, name: str) -> list[bytes]:
    """What is in a user's INBOX, oldest first."""
    account_id = await harness.deliveries.account_of(f"{name}@demo.test")
    assert account_id is not None
    return await harness.contents(account_id)
