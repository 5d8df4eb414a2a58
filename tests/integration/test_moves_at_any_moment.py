"""A message that another client moves keeps its id, whenever it moves while a gateway looks, dies or is off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from app.mail.backend import MailBackend
from app.mail.delta import Arrived
from app.mail.identifiers import now_ms
from app.mailstore.index import Index
from app.mirror import moves

from tests.imap_harness import ImapClient
from tests.integration.test_moves_by_email_id import following_our_own_server
from tests.sync_harness import Followed, mail

MOMENTS = range(1, 14)
"""Calls of the origin before which something happens. A catch-up makes fewer."""
DEATHS = (None, 1, 2, 3, 4)
"""After how many changes of the index the gateway dies."""
BOXES = ("INBOX", "Archive", "Trash")
Act = Callable[[], Awaitable[object]]
ASKED = ("list_mailboxes", "changes", "present", "scan", "uids", "contents", "placements")


class Killed(Exception):
    """The gateway dies here."""


@dataclass
class Meddled:
    """A backend before whose calls another client does something, by the number of the call.

    `is_told_apart`: the origin gives messages ids, as it does.
    """

    backend: MailBackend
    meddling: dict[int, Act]
    is_told_apart: bool = True
    calls: int = 0
    done: list[asyncio.Future[object]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.backend, name)
        if name not in ASKED:
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            await self._meddle()
            return await found(*arguments, **more)

        return call

    async def fetch(self, *arguments: Any) -> AsyncIterator[Sequence[Arrived]]:
        await self._meddle()
        async for batch in self.backend.fetch(*arguments):
            yield batch if self.is_told_apart else [replace(one, origin_id=None) for one in batch]

    async def _meddle(self) -> None:
        self.calls += 1
        if do := self.meddling.pop(self.calls, None):
            self.done.append(asyncio.ensure_future(do()))
            await asyncio.shield(self.done[-1])  # another client lives on when the gateway dies


@dataclass
class Dying:
    """An index with which the process dies after its `at`-th change. What it knew is lost with it."""

    index: Index
    at: int
    changes: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)

    async def apply(self, *arguments: Any, **more: Any) -> Any:
        applied = await self.index.apply(*arguments, **more)
        self.changes += 1
        if self.changes == self.at:
            raise Killed
        return applied


@dataclass
class Scene:
    """A followed account with a message in INBOX, whose id is known, and another client."""

    followed: Followed
    client: ImapClient
    id: str
    is_told_apart: bool

    @asynccontextmanager
    async def following(self, meddling: dict[int, Act], dies_at: int | None = None) -> AsyncIterator[None]:
        """Follow during the block. The process may die in it."""
        followed = self.followed
        harness, backend = followed.harness, followed.backend
        meddled = Meddled(backend, meddling, self.is_told_apart)
        followed.backend = cast(MailBackend, meddled)
        if dies_at is not None:
            followed.harness = replace(harness, index=cast(Index, Dying(harness.index, dies_at)))
        try:
            with suppress(Killed):
                async with followed.following():
                    yield
        finally:
            followed.harness, followed.backend = harness, backend
            await asyncio.gather(*meddled.done)

    async def where(self) -> list[tuple[str, str]]:
        """Mailbox and id of each message that is the one."""
        messages = [(path, one) for path in BOXES for one in await self.followed.messages(path)]
        return [(path, one.id) for path, one in messages if orjson.loads(one.summary)["subject"] == "travels"]

    async def move(self, source: str = "INBOX", target: str = "Trash") -> None:
        await self._at(source)
        await self.client.ok(f"UID MOVE {self._uid} {target}")

    async def move_away(self) -> None:
        await self.move("INBOX", "Archive")

    async def move_on(self) -> None:
        await self.move("Archive", "Trash")

    async def copy(self) -> None:
        await self._at("INBOX")
        await self.client.ok(f"UID COPY {self._uid} Trash")

    async def remove(self) -> None:
        await self._at("INBOX")
        await self.client.ok(f"UID STORE {self._uid} +FLAGS.SILENT (\\Deleted)")
        await self.client.ok("EXPUNGE")

    async def _at(self, path: str) -> None:
        await self.client.ok(f"SELECT {path}")
        (answer,) = await self.client.ok("UID SEARCH SUBJECT travels")
        self._uid = int(answer.split()[-1])


@asynccontextmanager
async def scene(folder: Path, *, is_told_apart: bool) -> AsyncIterator[Scene]:
    """Other mail has come to each mailbox since the account was followed: none of them may be passed over."""
    await asyncio.to_thread(folder.mkdir)
    async with following_our_own_server(folder) as (followed, served), served.client() as client:
        await served.deliver(mail("travels"))
        one = Scene(followed, client, "", is_told_apart)
        async with one.following({}):
            await followed.until_live()
        ((_, one.id),) = await one.where()
        for path in BOXES:
            await served.deliver(mail(f"new in {path}"), path)
        yield one


@pytest.mark.parametrize("is_told_apart", [True, False], ids=["by its origin's id", "by content"])
@pytest.mark.parametrize("how", [("move",), ("copy", "remove"), ("move_away", "move_on")], ids="-".join)
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.soak)])
async def test_a_message_keeps_its_id_whenever_it_moves_while_a_gateway_looks_or_dies_or_is_off_for_long(
    tmp_path: Path, is_told_apart: bool, how: tuple[str, ...], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment, dies_at in list(product(MOMENTS, DEATHS))[::step]:
        async with scene(tmp_path / f"{moment}-{dies_at}", is_told_apart=is_told_apart) as one:
            acts: list[Act] = [getattr(one, name) for name in how]
            left = {moment + number: act for number, act in enumerate(acts)}
            async with one.following(left, dies_at):
                await one.followed.until_live()
            for late in left.values():
                await late()
            with monkeypatch.context() as patch:
                patch.setattr(moves, "now_ms", lambda: now_ms() + 3_600_000)
                async with one.following({}):
                    await one.followed.until(one.where, [("Trash", one.id)])
