"""Mail from elsewhere: the MX and LMTP faces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.servers.smtp import Face, SmtpConversation, SmtpSite

from tests.house import House, open_house
from tests.unit.servers.talk import Talk, local_peer

LIMIT = 100_000


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        await house.add_account("ann@demo.test")
        await house.add_account("bob@demo.test")
        yield house


def talk_to(house: House, face: Face, is_encrypted: bool = False) -> Talk:
    peer = local_peer(is_encrypted=is_encrypted)
    site = SmtpSite(face, "mail.demo.test", house.deliveries, house.logins, LIMIT)
    return Talk(SmtpConversation(peer, site), peer)


@pytest.fixture
def mx(house: House) -> Talk:
    return talk_to(house, Face.MX)


@pytest.fixture
def lmtp(house: House) -> Talk:
    return talk_to(house, Face.LMTP)


async def inbox(house: House, name: str) -> list[bytes]:
    account_id = await house.deliveries.account_of(f"{name}@demo.test")
    assert account_id is not None
    return await house.contents(account_id)


MAIL = b"EHLO there.example\r\nMAIL FROM:<joe@there.example>\r\nRCPT TO:<ann@demo.test>\r\nDATA\r\n"
BODY = b"Subject: Hi\r\nMessage-ID: <1@there.example>\r\n\r\nHello\r\n"


async def test_a_message_for_a_local_user_is_in_the_inbox_when_250_is_said(house: House, mx: Talk) -> None:
    assert mx.greeting == b"220 mail.demo.test ESMTP Postgate\r\n"
    assert (await mx.say(MAIL)).endswith(b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CRLF>.<CRLF>\r\n")
    assert await mx.say(BODY + b".\r\n") == b"250 2.0.0 Ok\r\n"

    (content,) = await inbox(house, "ann")
    assert content.startswith(
        b"Return-Path: <joe@there.example>\r\nReceived: from there.example ([127.0.0.1])\r\n"
        b"\tby mail.demo.test with ESMTP id in_"
    )
    assert b"\tfor <ann@demo.test>;\r\n" in content
    assert content.endswith(b"\r\n" + BODY)
    assert await mx.say(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert mx.is_over
