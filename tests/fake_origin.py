"""A mail server in memory behind MailBackend, for what real ones do seldom: faults, lies, missing extensions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, cast

from app.errors import GatewayError, MailboxNotFound, ServerRefused, Unreachable
from app.mail.backend import BackendChanges, MailBackend, OriginMailbox, Quota, Signal, SyncMode
from app.mail.delta import Arrived, Known, Placed
from app.mail.types import SEEN, Flags, Mailbox, MailboxId, Message, Overview, Role

REFUSAL = "the mail server did not return this message: it is broken"


class Tells(Enum):
    """What the server can say of changes."""

    VANISHED = "QRESYNC"
    FLAGS = "CONDSTORE"
    NOTHING = "neither"


@dataclass
class Stored:
    subject: str
    flags: Flags
    modseq: int


@dataclass
class Box:
    uid_validity: int
    uid_next: int = 1
    modseq: int = 1
    messages: dict[int, Stored] = field(default_factory=dict)
    vanished: dict[int, int] = field(default_factory=dict)
    """UID → MODSEQ of its removal."""
    is_refusing: bool = False
    is_hiding: bool = False
    """Shows no message, but to a new connection."""
    refused: set[int] = field(default_factory=set)
    """UIDs of messages that it does not return, and says so."""
    omitted: set[int] = field(default_factory=set)
    """UIDs of messages that it names and does not return."""


class FakeOrigin:
    """Change it by its methods, which signal unless `is_quiet`."""

    host = "fake.test"

    def __init__(self, tells: Tells = Tells.VANISHED) -> None:
        self.tells = tells
        self.boxes = {"INBOX": Box(1)}
        self.fault: BaseException | None = None
        """What every call raises."""
        self.is_quiet = False
        self.is_standing_still = False
        """HIGHESTMODSEQ does not change any more; signals tell the other numbers."""
        self.is_failing_when_left = False
        """A watch that is cancelled ends with a lost connection."""
        self.watches = 0
        self.limits: Sequence[Quota] | None = None
        self.limits_fault: GatewayError | None = None
        self._news = asyncio.Event()
        self._touched: set[str] = set()

    @property
    def backend(self) -> MailBackend:
        return cast("MailBackend", self)

    # ---- what happens there

    def add(self, subject: str, name: str = "INBOX", flags: Flags = frozenset()) -> int:
        box = self._changed(name)
        uid, box.uid_next = box.uid_next, box.uid_next + 1
        box.messages[uid] = Stored(subject, flags, box.modseq)
        return uid

    def flag(self, uid: int, flags: Flags, name: str = "INBOX") -> None:
        box = self._changed(name)
        box.messages[uid] = replace(box.messages[uid], flags=flags, modseq=box.modseq)

    def expunge(self, uid: int, name: str = "INBOX") -> Stored:
        box = self._changed(name)
        box.vanished[uid] = box.modseq
        return box.messages.pop(uid)

    def move(self, uid: int, name: str, target: str) -> int:
        stored = self.expunge(uid, name)
        return self.add(stored.subject, target, stored.flags)

    def reuse(self, uid: int, subject: str, name: str = "INBOX") -> None:
        """Remove a message and give its UID to a new one, as no server may."""
        box = self._changed(name)
        box.messages[uid] = Stored(subject, frozenset(), box.modseq)

    def make(self, name: str) -> None:
        self.boxes[name] = Box(max(box.uid_validity for box in self.boxes.values()) + 1)
        self.signal()

    def lose(self, error: GatewayError) -> None:
        """Fail every call, and the watch."""
        self.fault = error
        self._news.set()

    def signal(self, *names: str) -> None:
        self._touched.update(names or self.boxes)
        self._news.set()

    def _changed(self, name: str) -> Box:
        self.boxes[name].modseq += not self.is_standing_still
        if not self.is_quiet:
            self.signal(name)
        return self.boxes[name]

    def content(self) -> dict[str, dict[int, Flags]]:
        return {name: {uid: one.flags for uid, one in box.messages.items()} for name, box in self.boxes.items()}

    # ---- MailBackend, as far as it is followed

    def _box(self, mailbox: Mailbox) -> Box:
        self._check()
        if mailbox.origin_name not in self.boxes:
            raise MailboxNotFound
        box = self.boxes[mailbox.origin_name]
        if box.is_refusing:
            raise ServerRefused("broken")
        return box

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault

    @property
    def _keeps_modseq(self) -> bool:
        return self.tells is not Tells.NOTHING

    async def quotas(self) -> Sequence[Quota] | None:
        self._check()
        if self.limits_fault is not None:
            raise self.limits_fault
        return self.limits

    async def list_mailboxes(self) -> list[OriginMailbox]:
        self._check()
        return [self._listed(name, box) for name, box in self.boxes.items()]

    def _listed(self, name: str, box: Box) -> OriginMailbox:
        unread = sum(SEEN not in one.flags for one in box.messages.values())
        role = Role.INBOX if name == "INBOX" else None
        modseq = box.modseq if self._keeps_modseq else None
        return OriginMailbox(
            name, name, "/", role, True, True, box.uid_validity, box.uid_next, modseq, len(box.messages), unread
        )

    async def fetch(self, mailbox: Mailbox, uids: Sequence[int]) -> AsyncIterator[list[Arrived]]:
        box = self._box(mailbox)
        found = [_arrived(mailbox.id, uid, box) for uid in uids if uid in box.messages and uid not in box.omitted]
        for start in range(0, len(found), 50):
            await asyncio.sleep(0)
            self._check()
            yield found[start : start + 50]

    async def newest(self, mailbox: Mailbox, count: int, below_uid: int | None = None) -> list[Arrived]:
        box = self._box(mailbox)
        uids = sorted((uid for uid in box.messages if below_uid is None or uid < below_uid), reverse=True)
        return [_arrived(mailbox.id, uid, box) for uid in uids[:count]]

    async def placements(self, mailbox: Mailbox, uids: Sequence[int]) -> Sequence[Placed]:
        return ()

    async def scan(self, mailbox: Mailbox, *, is_anew: bool = False) -> Mapping[int, Known]:
        box = self._box(mailbox)
        return {} if box.is_hiding and not is_anew else _known(box, 0)

    async def uids(self, mailbox: Mailbox) -> Sequence[int]:
        return sorted(await self.scan(mailbox))

    async def present(self, mailbox: Mailbox, uids: Collection[int]) -> Collection[int]:
        box = self._box(mailbox)
        is_ours = box.uid_validity == mailbox.uid_validity and not box.is_hiding
        return {uid for uid in uids if uid in box.messages} if is_ours else ()

    async def changes(self, mailbox: Mailbox) -> BackendChanges:
        box = self._box(mailbox)
        since = mailbox.highest_modseq if self._keeps_modseq else 0
        gone = {uid for uid, modseq in box.vanished.items() if modseq > since}
        if box.is_hiding:
            gone |= box.messages.keys()
        return BackendChanges(
            flags={} if box.is_hiding else _known(box, since),
            vanished=gone if self.tells is Tells.VANISHED and since else None,
            uid_validity=box.uid_validity,
            uid_next=box.uid_next,
            highest_modseq=box.modseq if self._keeps_modseq else 0,
        )

    async def previews(self, messages: Sequence[Message]) -> Mapping[int, str]:
        self._check()
        return {one.uid: "A preview" for one in messages}

    async def watch(self, mailboxes: Sequence[Mailbox]) -> FakeOrigin:
        self._check()
        self.watches += 1
        return self

    # ---- Watch

    mode = SyncMode.IDLE

    async def signals(self) -> AsyncIterator[Signal]:
        while True:
            try:
                await self._news.wait()
            except asyncio.CancelledError:
                if self.is_failing_when_left:
                    raise Unreachable("The connection was lost while it was left") from None
                raise
            self._news.clear()
            self._check()
            touched, self._touched = frozenset(self._touched), set()
            status = tuple(self._listed(name, self.boxes[name]) for name in touched) if self.is_standing_still else ()
            yield Signal(touched, status, "INBOX" in touched, has_unnumbered_flags=self.is_standing_still)

    async def close(self) -> None:
        """Nothing is open."""


def _known(box: Box, since: int) -> dict[int, Known]:
    return {uid: Known(one.flags, one.modseq) for uid, one in box.messages.items() if one.modseq > since}


def _arrived(mailbox_id: MailboxId, uid: int, box: Box) -> Arrived:
    stored = box.messages[uid]
    if uid in box.refused:
        facts: dict[str, Any] = {"problems": (REFUSAL,), "unread": REFUSAL, "preview": ""}
        return Arrived(
            mailbox_id, uid, frozenset(), 1_600_000_000_000, 0, Overview(), None, uid_validity=box.uid_validity, **facts
        )
    overview = Overview(subject=stored.subject, message_id_header=f"<{stored.subject}@fake.test>")
    return Arrived(
        mailbox_id,
        uid,
        stored.flags,
        1_700_000_000_000,
        100,
        overview,
        None,
        modseq=stored.modseq,
        uid_validity=box.uid_validity,
    )
