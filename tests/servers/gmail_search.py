"""How Gmail searches: over its own words, and as any IMAP server."""

from __future__ import annotations

import re

from app.wire.imap import search as s
from app.wire.imap.requests.search import Search
from app.wire.imap.sets import SequenceSet

from tests.servers.gmail_session import No, Session
from tests.servers.gmail_store import Box, Mail


def search_gmail(session: Session, what: str, value: str) -> str:
    box = session.selected()
    found = [
        uid
        for uid, mail in box.uids.items()
        if (what == "RAW" and value.lower() in mail.content.decode("utf-8", "replace").lower())
        or value == str(mail.id if what == "MSGID" else mail.thread_id)
    ]
    session.send(f"* SEARCH {' '.join(map(str, found))}".rstrip())
    return "OK SEARCH completed (Success)"


async def search(session: Session, command: Search) -> str:
    box = session.selected()
    session.tell_news()
    last = max(box.uids, default=0)
    found = [uid for uid in box.uids if _matches(command.key, box, uid, last)]
    if command.returning is None:
        session.send(f"* SEARCH {' '.join(map(str, found))}".rstrip())
    else:
        found_set = f" ALL {SequenceSet.of(found)}" if found else ""
        session.send(f'* ESEARCH (TAG "x") UID{found_set}')
    return "OK SEARCH completed (Success)"


def _matches(key: s.SearchKey, box: Box, uid: int, last: int) -> bool:
    match key:
        case s.And(keys):
            return all(_matches(one, box, uid, last) for one in keys)
        case s.Or(left, right):
            return _matches(left, box, uid, last) or _matches(right, box, uid, last)
        case s.Not(inner):
            return not _matches(inner, box, uid, last)
        case s.Numbers(numbers):
            return uid in numbers.resolved(last)
        case s.HasFlag(flag):
            return flag in box.flags(uid)
        case _:
            return _matches_text(key, box.uids[uid])


def _matches_text(key: s.SearchKey, mail: Mail) -> bool:
    match key:
        case s.All():
            return True
        case s.HeaderMatch(name, text):
            header = _text(mail.parsed.header_block)
            fields = re.findall(rf"^{re.escape(name)}:(.*(?:\r\n[ \t].*)*)", header, re.IGNORECASE | re.MULTILINE)
            return any(text.lower() in value.lower() for value in fields)
        case s.TextMatch(kind, text):
            content = mail.content[len(mail.parsed.header_block) :] if kind is s.TextField.BODY else mail.content
            return text.lower() in _text(content).lower()
        case _:
            raise No("BAD Could not parse search key")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
