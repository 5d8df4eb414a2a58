"""A client of `/changes` that keeps what it was told, mail that changes at random, and a fresh read to compare with."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import orjson
from app.errors import StateExpired
from app.mail import filter as f
from app.mail.delta import (
    Arrived,
    Copied,
    Delta,
    Flagged,
    Location,
    MailboxDeleted,
    MailboxFound,
    MailboxRenamed,
    MailboxReset,
    Moved,
    Removed,
)
from app.mail.types import AccountId, Flags, Mailbox, Message, Overview
from app.services.following.changes import Changes, ChangesSince
from app.services.following.states import StatePosition

from tests.contract.stores import Stores

FLAGS = ("\\Seen", "\\Flagged", "red")
NAMES = ("INBOX", "Archive", "Work", "Trash")
Known = dict[str, tuple[frozenset[str], tuple[str, ...]]]
"""Message id → the mailboxes that it is in, its keywords."""


@dataclass
class Origin:
    """Mail of one mirrored account that changes at random. `is_shared`: a message may be in several mailboxes."""

    stores: Stores
    account_id: AccountId
    chance: random.Random
    is_shared: bool = False
    uids: int = 0

    async def change(self) -> None:
        mailboxes = await self.stores.reader.mailboxes.mailboxes(self.account_id)
        messages = await self._messages()
        choices: list[tuple[Callable[[list[Mailbox], list[Message]], Delta], int]] = [
            (self._arrive, 10), (self._flag, 6), (self._move, 5), (self._copy, 2), (self._remove, 4),
            (self._find, 1), (self._rename, 1), (self._reset, 1), (self._delete, 1),
        ]  # fmt: skip
        if not messages or not mailboxes:
            choices = [(self._find, 1), (self._arrive, 2 if mailboxes else 0)]
        (make,) = self.chance.choices([one for one, _ in choices], [weight for _, weight in choices])
        await self.stores.index.apply(self.account_id, make(mailboxes, messages))

    async def _messages(self) -> list[Message]:
        reader = self.stores.reader
        return await reader.messages.find(
            self.account_id, await reader.lists.matching_ids(self.account_id, f.All(()), 10_000)
        )

    def _flags(self) -> Flags:
        return frozenset(self.chance.sample(FLAGS, self.chance.randint(0, 3)))

    def _arrive(self, mailboxes: list[Mailbox], messages: list[Message]) -> Delta:
        mailbox, is_announced = self.chance.choice(mailboxes), self.chance.random() < 0.7
        arrived = []
        for _ in range(self.chance.randint(1, 4)):
            self.uids += 1
            known = self.is_shared and self.uids > 4 and self.chance.random() < 0.4
            origin = str(self.chance.randint(1, self.uids)) if known else str(self.uids)
            overview = Overview("Hello", message_id_header=f"<{origin}@remote>")
            arrived.append(
                Arrived(
                    mailbox.id, self.uids, self._flags(), self.uids, 100, overview, None, modseq=self.uids,
                    origin_id=origin if self.is_shared else None, is_shared=self.is_shared, is_announced=is_announced,
                )
            )  # fmt: skip
        return Delta(arrived=tuple(arrived))

    def _flag(self, _: list[Mailbox], messages: list[Message]) -> Delta:
        some = self.chance.sample(messages, min(len(messages), self.chance.randint(1, 3)))
        return Delta(flagged=tuple(Flagged(_at(one), self._flags()) for one in some))

    def _move(self, mailboxes: list[Mailbox], messages: list[Message]) -> Delta:
        some = self.chance.sample(messages, min(len(messages), self.chance.randint(1, 3)))
        return Delta(moved=tuple(Moved(_at(one), self._free(mailboxes)) for one in some))

    def _copy(self, mailboxes: list[Mailbox], messages: list[Message]) -> Delta:
        source = _at(self.chance.choice(messages))
        return Delta(copied=(Copied(source, self._free(mailboxes), is_shared=self.is_shared),))

    def _remove(self, _: list[Mailbox], messages: list[Message]) -> Delta:
        some = self.chance.sample(messages, min(len(messages), self.chance.randint(1, 3)))
        return Delta(removed=tuple(Removed(_at(one)) for one in some))

    def _find(self, _: list[Mailbox], __: list[Message]) -> Delta:
        return Delta(mailboxes_found=(MailboxFound(name := self.chance.choice(NAMES), name, "/", None, 7),))

    def _rename(self, mailboxes: list[Mailbox], _: list[Message]) -> Delta:
        self.uids += 1
        name = f"Renamed {self.uids}"
        return Delta(mailboxes_renamed=(MailboxRenamed(self.chance.choice(mailboxes).id, name, name),))

    def _reset(self, mailboxes: list[Mailbox], _: list[Message]) -> Delta:
        self.uids += 1
        return Delta(mailboxes_reset=(MailboxReset(self.chance.choice(mailboxes).id, self.uids + 100),))

    def _delete(self, mailboxes: list[Mailbox], _: list[Message]) -> Delta:
        return Delta(mailboxes_deleted=(MailboxDeleted(self.chance.choice(mailboxes).id),))

    def _free(self, mailboxes: list[Mailbox]) -> Location:
        self.uids += 1
        return Location(self.chance.choice(mailboxes).id, self.uids)


def _at(message: Message) -> Location:
    return Location(message.mailbox_id, message.uid)


async def fresh(
    stores: Stores, account_id: AccountId, visible: Collection[str] | None
) -> tuple[Known, dict[str, tuple[Any, ...]]]:
    """The mail as it is: messages, and mailboxes with their numbers."""
    mailboxes: dict[str, tuple[Any, ...]] = {
        one.id: (one.path, one.uid_validity, one.total, one.unread)
        for one in await stores.reader.mailboxes.mailboxes(account_id)
        if visible is None or one.id in visible
    }
    ids = await stores.reader.lists.matching_ids(account_id, f.All(()), 10_000)
    known = {one.id: _known(one.summary, mailboxes) for one in await stores.reader.messages.find(account_id, ids)}
    return {id_: one for id_, one in known.items() if one[0]}, mailboxes


def _known(summary: bytes, mailboxes: Collection[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    told = orjson.loads(summary)
    return frozenset(told["mailbox_ids"]) & frozenset(mailboxes), tuple(sorted(told["keywords"]))


@dataclass
class Client:
    """Knows mail as of a state, and follows by differences alone, but for the mailboxes that can't be told."""

    stores: Stores
    account_id: AccountId
    since: StatePosition
    visible: Collection[str] | None
    messages: Known = field(default_factory=dict)
    mailboxes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    """The mailboxes that are to be read anew at the end."""
    resets: int = 0

    async def page(self, source: ChangesSince) -> bool:
        """Take one difference; whether there is more."""
        try:
            changes = await source.read(self.account_id, self.since, self.visible, self.unread)
        except StateExpired as error:
            self._give_up(error.mailbox_ids)
            return True
        await self._apply(changes)
        has_more = changes.base_seq is not None
        self.since = StatePosition(
            changes.position, changes.position.seq if changes.base_seq is None else changes.base_seq
        )
        if not has_more:
            await self._list_anew()
        return has_more

    def _give_up(self, mailbox_ids: Collection[str]) -> None:
        assert not self.unread.issuperset(mailbox_ids)
        self.unread.update(mailbox_ids)
        self.resets += 1
        self._leave(mailbox_ids)

    async def _apply(self, changes: Changes) -> None:
        for id_ in changes.removed:
            self.messages.pop(id_, None)
        for id_, summary in changes.created.items():
            self.messages[id_] = _known(summary, orjson.loads(summary)["mailbox_ids"])
        for id_, (_, to) in changes.moved.items():
            self.messages[id_] = (frozenset(to), self.messages[id_][1])
        for id_, change in changes.updated.items():
            self.messages[id_] = (self.messages[id_][0], tuple(sorted(change.keywords)))
        self._leave(changes.mailboxes_removed)
        for id_ in changes.mailboxes_removed:
            self.mailboxes.pop(id_, None)
        _, mailboxes = await fresh(self.stores, self.account_id, self.visible)
        told = {*changes.mailboxes_created, *changes.mailboxes_updated}
        self.mailboxes |= {id_: mailboxes[id_] for id_ in told if id_ in mailboxes}

    def _leave(self, mailbox_ids: Collection[str]) -> None:
        left = {id_: (places - frozenset(mailbox_ids), keywords) for id_, (places, keywords) in self.messages.items()}
        self.messages = {id_: one for id_, one in left.items() if one[0]}

    async def _list_anew(self) -> None:
        """What a list of each of these mailboxes shows."""
        messages, _ = await fresh(self.stores, self.account_id, self.visible)
        for id_, one in messages.items():
            if one[0] & self.unread:
                self.messages[id_] = one
        self.unread.clear()

    def seen(self) -> Known:
        """What it knows, of the mailboxes that it may see."""
        sight = self.visible
        known = {
            id_: (places if sight is None else places & frozenset(sight), keywords)
            for id_, (places, keywords) in self.messages.items()
        }
        return {id_: one for id_, one in known.items() if one[0]}
