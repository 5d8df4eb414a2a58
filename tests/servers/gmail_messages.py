"""How Gmail answers what reads and changes messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from app.servers.imap.sections import chosen_fields, cut, locate
from app.wire.imap import render
from app.wire.imap.dates import render_date_time
from app.wire.imap.names import encode_utf7
from app.wire.imap.requests.append import Append
from app.wire.imap.requests.copy import Copy
from app.wire.imap.requests.expunge import UidExpunge
from app.wire.imap.requests.fetch import Fetch, FetchItem, SectionRequest
from app.wire.imap.requests.store import Store
from app.wire.imap.sets import SequenceSet

from tests.servers.gmail_session import Session
from tests.servers.gmail_store import ALL, LABELS, Box, Mail


def fetch(session: Session, command: Fetch, extra: list[str]) -> str:
    box = session.selected()
    session.tell_news()
    numbers = {uid: number for number, uid in enumerate(box.uids, 1)}
    for uid in session.among(command.messages):
        if command.changed_since is not None and box.modseqs[uid] <= command.changed_since:
            continue
        items = [_item(session, box, uid, item) for item in (*command.items, *extra)]
        session.send(b"* %d FETCH (%b)" % (numbers[uid], b" ".join(items)))
    return "OK Success"


def _item(session: Session, box: Box, uid: int, item: FetchItem) -> bytes:
    mail = box.uids[uid]
    if isinstance(item, SectionRequest):
        return _section(mail, item)
    if item == "ENVELOPE":
        session.gmail.fetched[mail.id] += 1
    found: dict[str, Callable[[], bytes]] = {
        "UID": lambda: b"%d" % uid,
        "FLAGS": lambda: b"(%b)" % " ".join(box.flags(uid)).encode(),
        "MODSEQ": lambda: b"(%d)" % box.modseqs[uid],
        "INTERNALDATE": lambda: b'"%b"' % render_date_time(mail.received_at_ms).encode(),
        "RFC822.SIZE": lambda: b"%d" % len(mail.content),
        "ENVELOPE": lambda: render.envelope(mail.parsed.envelope),
        "BODYSTRUCTURE": lambda: render.structure(mail.parsed.structure),
        "X-GM-MSGID": lambda: b"%d" % mail.id,
        "X-GM-THRID": lambda: b"%d" % mail.thread_id,
        "X-GM-LABELS": lambda: _labels(session, box, mail),
    }
    return item.encode() + b" " + found[item]()


def _labels(session: Session, box: Box, mail: Mail) -> bytes:
    """All but the one of the mailbox that it is read in."""
    names = [LABELS.get(one, one) for one in sorted(mail.homes() - {box.name, ALL})]
    return b"(%b)" % b" ".join(render.string(name if session.is_utf8 else encode_utf7(name)) for name in names)


def _section(mail: Mail, item: SectionRequest) -> bytes:
    place = locate(item, len(mail.parsed.header_block), len(mail.content), lambda: mail.parsed.structure)
    if place is None:
        return item.label + b" NIL"
    if item.fields:
        return item.label + b" " + render.literal(chosen_fields(mail.parsed.header_block, item))
    span = cut(place, item.partial)
    return item.label + b" " + render.literal(mail.content[span.start : span.stop])


async def store_flags(session: Session, command: Store) -> str:
    box = session.selected()
    failed = []
    for uid in session.among(command.messages):
        if command.unchanged_since is not None and box.modseqs[uid] > command.unchanged_since:
            failed.append(uid)
            continue
        before, given = set(box.flags(uid)), set(command.flags)
        after = before | given if command.mode == "+" else before - given if command.mode == "-" else given
        box.deleted = box.deleted | {uid} if "\\Deleted" in after else box.deleted - {uid}
        mail, number = box.uids[uid], list(box.uids).index(uid) + 1
        if after - {"\\Deleted"} != mail.flags:
            session.store.flag(mail, after - {"\\Deleted"})
        if uid in box.uids and not command.is_silent:
            flags = " ".join(box.flags(uid))
            session.send(f"* {number} FETCH (UID {uid} MODSEQ ({box.modseqs[uid]}) FLAGS ({flags}))")
            session.seen[uid] = box.flags(uid)
    return f"OK [MODIFIED {SequenceSet.of(failed)}] Conditional STORE failed." if failed else "OK Success"


def store_labels(session: Session, numbers: bytes, mode: bytes, text: bytes) -> str:
    given = {one.decode().strip('"').replace("\\\\", "\\") for one in re.findall(rb'"[^"]*"|\S+', text)}
    names = {name for name in session.store.boxes if LABELS.get(name, name) in given}
    for uid in session.among(SequenceSet.parse(numbers.decode())):
        mail = session.selected().uids[uid]
        for name in names:
            (session.store.take if mode == b"-" else session.store.place)(mail, name)
    return "OK Success"


async def copy(session: Session, command: Copy) -> str:
    source, target = session.selected(), session.target(command.mailbox)
    mails = {uid: source.uids[uid] for uid in session.among(command.messages)}
    for mail in mails.values():
        session.store.place(mail, target.name)
        if command.is_move and target is not source and mail in source.uids.values():
            session.store.take(mail, source.name)
    pairs = {uid: target.uid_of(mail) for uid, mail in mails.items() if mail in target.uids.values()}
    code = ""
    if pairs:
        numbers = ",".join(map(str, pairs)), ",".join(map(str, pairs.values()))
        code = f"[COPYUID {target.uid_validity} {numbers[0]} {numbers[1]}] "
    if command.is_move:
        if code:
            session.send(f"* OK {code}")
        session.tell_news()
        return "OK (Success)"
    return f"OK {code}(Success)"


async def uid_expunge(session: Session, command: UidExpunge) -> str:
    expunge(session, session.among(command.uids))
    session.tell_news()
    return "OK Success"


def expunge(session: Session, uids: Iterable[int]) -> None:
    box = session.selected()
    for uid in [uid for uid in uids if uid in box.deleted]:
        box.deleted.discard(uid)
        session.store.take(box.uids[uid], box.name)


async def append(session: Session, command: Append) -> str:
    box = session.target(command.mailbox)
    (one,) = command.messages
    assert isinstance(one.message, bytes)
    uid = session.store.append(box.name, one.message, one.flags, one.received_at_ms)
    session.tell_news()
    return f"OK [APPENDUID {box.uid_validity} {uid}] (Success)"
