"""How Gmail answers what is about mailboxes, which are its labels."""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.wire.imap.requests.listing import ListMailboxes, MailboxStatusOf
from app.wire.imap.requests.mailboxes import Create, Delete, Rename, Subscribe
from app.wire.imap.requests.select import Select

from tests.servers.gmail_session import No, Session
from tests.servers.gmail_store import USES, Box


async def list_mailboxes(session: Session, command: ListMailboxes) -> str:
    word = "LSUB" if command.is_lsub else "LIST"
    pattern = re.escape(command.patterns[0]).replace("\\*", ".*").replace("%", "[^/]*")
    names = [*session.store.boxes, "[Gmail]"]
    for name in sorted(names):
        if not re.fullmatch(pattern, name):
            continue
        box = session.store.boxes.get(name)
        words = [USES[name]] if name in USES else []
        words += ["\\HasChildren" if any(one.startswith(f"{name}/") for one in names) else "\\HasNoChildren"]
        words += ["\\Noselect"] if box is None else []
        if box and box.is_subscribed and "SUBSCRIBED" in command.returning:
            words.append("\\Subscribed")
        session.send(f'* {word} ({" ".join(words)}) "/" {session.shown(name)}')
        if box and command.status:
            _tell_status(session, box, command.status)
    return "OK Success"


async def status(session: Session, command: MailboxStatusOf) -> str:
    _tell_status(session, session.box_named(command.mailbox), command.items)
    return "OK Success"


def _tell_status(session: Session, box: Box, items: Iterable[str]) -> None:
    known = {
        "MESSAGES": len(box.uids),
        "UIDNEXT": box.uid_next,
        "UIDVALIDITY": box.uid_validity,
        "UNSEEN": sum("\\Seen" not in mail.flags for mail in box.uids.values()),
        "HIGHESTMODSEQ": box.modseq,
        "RECENT": 0,
    }
    session.send(f"* STATUS {session.shown(box.name)} ({' '.join(f'{one} {known[one]}' for one in items)})")


async def select(session: Session, command: Select) -> str:
    session.box = None
    box = session.box_named(command.mailbox)
    session.send("* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen $NotPhishing $Phishing)")
    session.send("* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen $NotPhishing $Phishing \\*)] ok.")
    session.send(f"* OK [UIDVALIDITY {box.uid_validity}] UIDs valid.")
    session.send(f"* {len(box.uids)} EXISTS")
    session.send("* 0 RECENT")
    session.send(f"* OK [UIDNEXT {box.uid_next}] Predicted next UID.")
    session.send(f"* OK [HIGHESTMODSEQ {box.modseq}]")
    session.box, session.seen = box, {uid: box.flags(uid) for uid in box.uids}
    return f"OK [READ-WRITE] {box.name} selected. (Success)"


async def create(session: Session, command: Create) -> str:
    if command.mailbox in session.store.boxes:
        raise No("NO [ALREADYEXISTS] Duplicate folder name (Failure)")
    session.store.make(command.mailbox)
    return "OK Success"


async def delete(session: Session, command: Delete) -> str:
    if session.box_named(command.mailbox).name in (*USES, "INBOX"):
        raise No("NO [CANNOT] Cannot delete reserved folder (Failure)")
    session.store.remove(command.mailbox)
    return "OK Success"


async def rename(session: Session, command: Rename) -> str:
    session.box_named(command.mailbox)
    for name in [one for one in session.store.boxes if f"{one}/".startswith(f"{command.mailbox}/")]:
        session.store.rename(name, command.new_name + name[len(command.mailbox) :])
    return "OK Success"


async def subscribe(session: Session, command: Subscribe) -> str:
    session.box_named(command.mailbox).is_subscribed = command.is_subscribed
    return "OK Success"
