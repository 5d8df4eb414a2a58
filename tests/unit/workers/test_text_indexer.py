from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from app.errors import ServerRefused
from app.mail.backend import MailBackend
from app.mail.delta import Delta
from app.mail.types import AccountId, MailboxId, Message, MessageId, ThreadId
from app.mailstore.reader import MailReader
from app.mailstore.texts import TextIndex
from app.workers.text_index_quota import TextLimits
from app.workers.text_indexer import ACCOUNTS_READ_AT_ONCE, REFUSED_IN_A_ROW, TextReader, previews_of


class _Awaited:
    """A text index with nothing to read; who asks on behalf of an account on a server that hangs waits for ever."""

    def __init__(self) -> None:
        self.is_waiting = asyncio.Event()

    async def sizes(self) -> dict[AccountId, int]:
        return {}

    async def size_bytes(self, account_id: AccountId) -> int:
        return 0

    async def await_again(self, account_id: AccountId) -> None: ...

    async def awaited(self, account_id: AccountId, limit: int) -> Sequence[Message]:
        if account_id.startswith("hung"):
            self.is_waiting.set()
            await asyncio.Event().wait()
        return []


class _Backend:
    def __init__(self, host: str) -> None:
        self.host = host


async def test_accounts_on_a_server_that_hangs_do_not_keep_the_text_of_others_from_being_read() -> None:
    texts = _Awaited()
    reader = TextReader(cast("MailReader", None), cast("TextIndex", texts), TextLimits(1024, 1024))

    async def apply(delta: Delta) -> None: ...

    async def read(account_id: str, host: str) -> bool:
        return await reader.read_some(AccountId(account_id), cast("MailBackend", _Backend(host)), apply)

    hung = [asyncio.create_task(read(f"hung{number}", "hung.test:993")) for number in range(ACCOUNTS_READ_AT_ONCE * 2)]
    await texts.is_waiting.wait()
    for _ in range(100):
        await asyncio.sleep(0)

    async with asyncio.timeout(5):
        assert not await read("good", "good.test:993")

    for task in hung:
        task.cancel()
    await asyncio.gather(*hung, return_exceptions=True)


class _Refusing:
    """Refuses every batch that holds one of these messages."""

    host = "odd.test:993"

    def __init__(self, *refused: int) -> None:
        self.refused = refused
        self.asked = 0

    async def previews(self, messages: Sequence[Message]) -> dict[int, str]:
        self.asked += 1
        if any(one.uid in self.refused for one in messages):
            raise ServerRefused("broken")
        return {one.uid: f"text {one.uid}" for one in messages}


def _messages(count: int) -> list[Message]:
    return [
        Message(
            MessageId(f"msg_{uid}"), AccountId("acc_1"), MailboxId("mbx_1"), uid, 0, 1, frozenset(), 0, 0,
            ThreadId("thr_1"), None, None, None, b"{}",
        )
        for uid in range(1, count + 1)
    ]  # fmt: skip


async def test_a_message_whose_preview_is_refused_takes_no_other_preview_along() -> None:
    found = await previews_of(cast("MailBackend", _Refusing(3, 7)), _messages(10))

    assert found == {uid: "" if uid in (3, 7) else f"text {uid}" for uid in range(1, 11)}


async def test_a_mailbox_that_refuses_every_preview_is_left_alone_after_a_few() -> None:
    backend = _Refusing(*range(1, 51))

    with pytest.raises(ServerRefused):
        await previews_of(cast("MailBackend", backend), _messages(50))
    assert backend.asked == 1 + REFUSED_IN_A_ROW
