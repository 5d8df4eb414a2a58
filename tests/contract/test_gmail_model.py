"""Random changes of labels, by another client and by ours: then the index is what Gmail has, and so is a replay."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import orjson
import pytest
from app.errors import GatewayError
from app.mail.backend import Backends
from app.mail.types import FLAGGED, SEEN, Message
from app.services.access.callers import Caller, Scope, TokenKind
from app.services.changing.messages import MessageChange, Messages
from app.services.reading.content import Content

from tests.gmail_harness import GmailAccount, mail, open_gmail
from tests.servers.gmail_store import ALL, DRAFTS, IMPORTANT, INBOX, SENT, SPAM, STARRED, TRASH, USES, Mail
from tests.sync_harness import GivenBackends

CALLER = Caller(token_id="tok_test", kind=TokenKind.SERVER, scopes=frozenset(Scope))  # type: ignore[arg-type]
Known = dict[str, tuple[list[str], list[str]]]
"""Id → mailbox ids and keywords of a message, as a subscriber knows it."""


@pytest.fixture
async def account(database_url: str | None, tmp_path: Path) -> AsyncIterator[GmailAccount]:
    async with open_gmail(tmp_path, database_url) as account:
        yield account


@pytest.mark.parametrize("changes_count", [250, pytest.param(10_000, marks=pytest.mark.soak)])
async def test_the_index_and_a_replay_end_as_gmail_does_after_any_changes_of_labels(
    account: GmailAccount, changes_count: int
) -> None:
    store, chance = account.gmail.store, random.Random(11)
    for name in ("Work", "Home"):
        store.make(name)
    for number in range(30):
        store.deliver(mail(f"m{number}"), *chance.choice([(INBOX,), (INBOX, "Work"), ("Home",), (DRAFTS,), (SENT,)]))
    changes = _Changes(account, chance)
    async with account.following():
        await account.settled()
        subscriber, seq = (
            await _state(account),
            (await account.harness.reader.mailboxes.standing(account.account_id)).seq,
        )
        ids = await account.ids_by_subject()
        for _ in range(changes_count):
            with suppress(GatewayError, KeyError):  # of a label that the index has yet to hear of
                await changes.one()
            if chance.random() < 0.3:
                await asyncio.sleep(chance.uniform(0, 0.05))
        await account.settled()

        await account.until(lambda: _counts(account), _true_counts(account))
        assert _replay(subscriber, [one.body for one in await account.events() if one.seq > seq]) == await _state(
            account
        )
        ids_then = await account.ids_by_subject()
        assert {subject: ids_then[subject] for subject in ids if subject in ids_then} == {
            subject: id_ for subject, id_ in ids.items() if subject in ids_then
        }
        created = [one.subject for one in await account.events("message.created")]
        assert len(set(created) - set(ids.values())) == changes.delivered  # whatever was lost from sight came back
        assert await account.labels() == {one.subject: sorted(one.homes()) for one in store.mails.values()}


class _Changes:
    """Makes them."""

    def __init__(self, account: GmailAccount, chance: random.Random) -> None:
        backends = cast("Backends", GivenBackends({account.account_id: account.backend}))
        self.delivered = self._names = 0
        self._account = account
        self._store = account.gmail.store
        self._chance = chance
        self._messages = Messages(
            backends, account.harness.index, account.harness.reader, Content(backends, account.harness.reader)
        )
        self._backend = account.backend

    async def one(self) -> None:
        draw = self._chance.random()
        if draw < 0.02:
            self._account.gmail.drop_all()
        elif draw < 0.05:
            self._change_labels()
        else:
            await self._chance.choice([self._theirs, self._theirs, self._ours])()

    def _change_labels(self) -> None:
        """Another client makes, renames or removes a label; no name comes twice, which would reset its mailbox."""
        self._names += 1
        new, old = f"Label {self._names}", self._label()
        change = self._chance.choice([self._store.make, self._store.remove, self._store.rename])
        if change == self._store.make or old == INBOX:
            self._store.make(new)
        elif change == self._store.remove:
            self._store.remove(old)
        else:
            self._store.rename(old, new)

    def _label(self) -> str:
        return self._chance.choice([one for one in self._store.boxes if one not in USES and one != INBOX] or [INBOX])

    async def _theirs(self) -> None:
        """Another client, at the server."""
        store, chance = self._store, self._chance
        one: Mail = chance.choice(list(store.mails.values()))
        match chance.randrange(8):
            case 0:
                self.delivered += 1
                store.deliver(mail(f"new{self.delivered}"))
            case 1:
                store.flag(one, chance.sample(["\\Seen", "\\Flagged", "\\Answered", "work"], 2))
            case 2:
                store.archive(one)
            case 3:
                store.place(one, chance.choice([TRASH, SPAM]))
            case 4 if len(store.mails) > 20 and one.state == "trash":
                store.delete(one)
            case 5:
                store.take(one, chance.choice([STARRED, IMPORTANT, self._label()])) if one.state == "kept" else None
            case _:
                store.place(one, chance.choice([INBOX, self._label(), STARRED, IMPORTANT]))

    async def _ours(self) -> None:
        """The API."""
        account_id, chance = self._account.account_id, self._chance
        message: Message = chance.choice(await self._account.all_messages())
        mailboxes = {one.path: one for one in await self._account.harness.reader.mailboxes.mailboxes(account_id)}
        match chance.randrange(5):
            case 0:
                change = MessageChange(add=frozenset({chance.choice([SEEN, FLAGGED, "home"])}))
                await self._messages.change(account_id, CALLER, message.id, change)
            case 1:
                change = MessageChange(remove=frozenset({chance.choice([SEEN, FLAGGED])}))
                await self._messages.change(account_id, CALLER, message.id, change)
            case 2:
                target = mailboxes[chance.choice([self._label(), INBOX, ALL, STARRED])]
                await self._messages.change(account_id, CALLER, message.id, MessageChange(mailbox_id=target.id))
            case 3:
                is_permanent = len(self._store.mails) > 20 and chance.random() < 0.3
                await self._messages.remove(account_id, CALLER, message.id, is_permanent=is_permanent)
            case _:
                confirmed = await self._backend.copy([message], mailboxes[self._label()])
                await self._account.harness.index.confirm(account_id, confirmed)


async def _state(account: GmailAccount) -> Known:
    summaries = [orjson.loads(one.summary) for one in await account.all_messages()]
    return {one["id"]: (one["mailbox_ids"], one["keywords"]) for one in summaries}


def _replay(known: Known, bodies: list[bytes]) -> Known:
    """What a subscriber makes of the events."""
    for body in bodies:
        event = orjson.loads(body)
        id_, data = event["subject"], event["data"]
        match event["type"]:
            case "message.created":
                known[id_] = (data["message"]["mailbox_ids"], data["message"]["keywords"])
            case "message.moved":
                assert known[id_][0] == data["from"]
                known[id_] = (data["to"], known[id_][1])
            case "message.updated":
                known[id_] = (known[id_][0], data["keywords"])
            case "message.deleted":
                del known[id_]
    return known


async def _counts(account: GmailAccount) -> dict[str, tuple[int, int]]:
    mailboxes = await account.harness.reader.mailboxes.mailboxes(account.account_id)
    return {one.path: (one.total, one.unread) for one in mailboxes if one.is_selectable}


def _true_counts(account: GmailAccount) -> dict[str, tuple[int, int]]:
    return {
        name: (len(box.uids), sum("\\Seen" not in one.flags for one in box.uids.values()))
        for name, box in account.gmail.store.boxes.items()
    }
