"""What Gmail keeps: one store of messages; every mailbox is a label's view of it, with UIDs and MODSEQs of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from app.mime.structure import ParsedMessage, parse_structure

INBOX, ALL, TRASH, SPAM = "INBOX", "[Gmail]/All Mail", "[Gmail]/Trash", "[Gmail]/Spam"
SENT, DRAFTS, STARRED, IMPORTANT = "[Gmail]/Sent Mail", "[Gmail]/Drafts", "[Gmail]/Starred", "[Gmail]/Important"
USES = {
    ALL: "\\All", TRASH: "\\Trash", SPAM: "\\Junk", SENT: "\\Sent", DRAFTS: "\\Drafts", STARRED: "\\Flagged",
    IMPORTANT: "\\Important",
}  # fmt: skip
LABELS = {INBOX: "\\Inbox", SENT: "\\Sent", DRAFTS: "\\Draft", STARRED: "\\Starred", IMPORTANT: "\\Important"}
"""What X-GM-LABELS calls them."""
FIRST_ID = 1_278_455_344_230_334_865
"""A message's number has 64 bits, as in Google's documentation."""


@dataclass(eq=False)
class Mail:
    """`state` is "kept", "trash" or "spam". `labels` are names of mailboxes; Starred is the flag alone."""

    id: int
    thread_id: int
    content: bytes
    parsed: ParsedMessage
    received_at_ms: int
    flags: set[str] = field(default_factory=set)
    labels: set[str] = field(default_factory=set)
    state: str = "kept"

    @property
    def subject(self) -> str:
        return self.parsed.overview.subject

    def homes(self) -> set[str]:
        """The mailboxes that show it."""
        if self.state != "kept":
            return {TRASH if self.state == "trash" else SPAM}
        return {ALL, *self.labels, *({STARRED} if "\\Flagged" in self.flags else ())}


@dataclass(eq=False)
class Box:
    name: str
    uid_validity: int
    uid_next: int = 1
    modseq: int = 1
    uids: dict[int, Mail] = field(default_factory=dict)
    modseqs: dict[int, int] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    """UIDs marked `\\Deleted`, which is a mark of the view."""
    is_subscribed: bool = True

    def uid_of(self, mail: Mail) -> int:
        return next(uid for uid, one in self.uids.items() if one is mail)

    def flags(self, uid: int) -> list[str]:
        return sorted(self.uids[uid].flags | ({"\\Deleted"} if uid in self.deleted else set()))

    def touch(self, mail: Mail) -> None:
        self.modseq += 1
        self.modseqs[self.uid_of(mail)] = self.modseq

    def show(self, mail: Mail) -> None:
        self.modseq += 1
        self.uids[self.uid_next], self.modseqs[self.uid_next] = mail, self.modseq
        self.uid_next += 1

    def hide(self, mail: Mail) -> None:
        self.modseq += 1
        uid = self.uid_of(mail)
        del self.uids[uid], self.modseqs[uid]
        self.deleted.discard(uid)


class GmailStore:
    """Change it by its methods, as another client does. `on_change` is called after each."""

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.mails: dict[int, Mail] = {}
        self.on_change: list[Callable[[], None]] = []
        self._next_id = FIRST_ID
        self._validity = 0
        for name in (INBOX, *USES):
            self.make(name)

    # ---- mailboxes

    def make(self, name: str) -> Box:
        self._validity += 1
        self.boxes[name] = Box(name, self._validity)
        self._told()
        return self.boxes[name]

    def remove(self, name: str) -> None:
        """Delete a label: what it was on stays in All Mail."""
        box = self.boxes[name]
        for mail in list(box.uids.values()):
            mail.labels.discard(name)
            box.hide(mail)
            self._touch(mail)
        del self.boxes[name]
        self._told()

    def rename(self, name: str, new_name: str) -> None:
        box = self.boxes.pop(name)
        box.name = new_name
        self.boxes[new_name] = box
        for mail in box.uids.values():
            mail.labels = {new_name if one == name else one for one in mail.labels}
        self._told()

    # ---- messages

    def deliver(self, content: bytes, *labels: str, received_at_ms: int | None = None) -> Mail:
        """New mail: in INBOX where no label is named."""
        return self._add(content, set(labels or (INBOX,)), set(), received_at_ms)

    def append(self, name: str, content: bytes, flags: Iterable[str], received_at_ms: int | None) -> int:
        """APPEND: a message that is here already gets the label; its UID in the mailbox."""
        known = [mail for mail in self.mails.values() if mail.content == content]
        mail = known[0] if known else self._add(content, set(), set(flags), received_at_ms)
        self.place(mail, name)
        return self.boxes[name].uid_of(mail)

    def send(self, content: bytes) -> Mail:
        """What SMTP took: Gmail files it under Sent by itself."""
        return self._add(content, {SENT}, {"\\Seen"}, None)

    def _add(self, content: bytes, labels: set[str], flags: set[str], received_at_ms: int | None) -> Mail:
        at_ms = int(time.time()) * 1000 if received_at_ms is None else received_at_ms
        parsed = parse_structure(content)
        mail = Mail(self._next_id, self._thread_of(parsed), content, parsed, at_ms, flags, labels)
        self._next_id += 1
        self.mails[mail.id] = mail
        self._settle(mail)
        return mail

    def _thread_of(self, parsed: ParsedMessage) -> int:
        related = {*parsed.overview.references, *parsed.overview.in_reply_to}
        for mail in self.mails.values():
            if mail.parsed.overview.message_id_header in related:
                return mail.thread_id
        return self._next_id

    def place(self, mail: Mail, name: str) -> None:
        """Put it into a mailbox: a label more, a star, or Trash, which strips its labels."""
        if name in (TRASH, SPAM):
            mail.state = "trash" if name == TRASH else "spam"
            mail.labels.clear()
        else:
            mail.state = "kept"
            if name == STARRED:
                mail.flags.add("\\Flagged")
            elif name != ALL:
                mail.labels.add(name)
        self._settle(mail)

    def take(self, mail: Mail, name: str) -> None:
        """Take it out of a mailbox: a label less. Out of Trash and Spam it is gone; All Mail and Sent keep it."""
        if name in (TRASH, SPAM):
            self.delete(mail)
            return
        if name == STARRED:
            mail.flags.discard("\\Flagged")
        elif name != SENT:
            mail.labels.discard(name)
        self._settle(mail)

    def archive(self, mail: Mail) -> None:
        self.take(mail, INBOX)

    def trash(self, mail: Mail) -> None:
        self.place(mail, TRASH)

    def delete(self, mail: Mail) -> None:
        del self.mails[mail.id]
        for box in self.boxes.values():
            if mail in box.uids.values():
                box.hide(mail)
        self._told()

    def flag(self, mail: Mail, flags: Iterable[str]) -> None:
        """Replace its flags, `\\Flagged` being the star."""
        mail.flags = set(flags)
        self._settle(mail)

    def _settle(self, mail: Mail) -> None:
        homes = mail.homes()
        for box in self.boxes.values():
            is_shown = mail in box.uids.values()
            if is_shown and box.name in homes:
                box.touch(mail)
            elif is_shown:
                box.hide(mail)
            elif box.name in homes:
                box.show(mail)
        self._told()

    def _touch(self, mail: Mail) -> None:
        for box in self.boxes.values():
            if mail in box.uids.values():
                box.touch(mail)

    def _told(self) -> None:
        for call in list(self.on_change):
            call()

    # ---- the truth, for tests

    def content(self) -> dict[str, dict[int, frozenset[str]]]:
        """Mailbox → UID → flags."""
        return {name: {uid: frozenset(box.flags(uid)) for uid in box.uids} for name, box in self.boxes.items()}
