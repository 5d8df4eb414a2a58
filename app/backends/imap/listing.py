"""The mailboxes of an account as the server lists them, and their names as people read them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import fetched
from app.backends.imap.quarantine import LIST_STATUS
from app.backends.imap.selected import validity_of
from app.backends.imap.session import Session
from app.errors import InvalidRequest, MailboxNotFound, ServerProtocolError, ServerRefused, Unreachable
from app.mail.backend import OriginMailbox
from app.mail.storable import storable
from app.mail.types import Mailbox, Role
from app.telemetry import get_logger
from app.wire.imap import commands
from app.wire.imap.encode import Command
from app.wire.imap.names import rebased
from app.wire.imap.responses import ListedMailbox, MailboxStatus
from app.wire.imap.sets import SequenceSet

log = get_logger(__name__)

ROLES = {
    "\\sent": Role.SENT,
    "\\drafts": Role.DRAFTS,
    "\\trash": Role.TRASH,
    "\\junk": Role.JUNK,
    "\\archive": Role.ARCHIVE,
    "\\all": Role.ALL,
    "\\flagged": Role.FLAGGED,
}
USES = {role: use.replace(use[1], use[1].upper(), 1) for use, role in ROLES.items()}
"""Role to the attribute that CREATE asks for (RFC 6154 §3)."""
ROLES_BY_NAME = {
    "sent": Role.SENT,
    "sent items": Role.SENT,
    "sent messages": Role.SENT,
    "drafts": Role.DRAFTS,
    "trash": Role.TRASH,
    "deleted items": Role.TRASH,
    "deleted messages": Role.TRASH,
    "junk": Role.JUNK,
    "junk email": Role.JUNK,
    "spam": Role.JUNK,
    "archive": Role.ARCHIVE,
}
"""For servers without SPECIAL-USE: the names that mail programs give."""
_UNSELECTABLE = {"\\noselect", "\\nonexistent"}
_LEVEL_SLASH = "\u2215"
"""Stands in a readable path for a "/" within one level, where the origin's delimiter is another."""
MAX_PIPELINED = 100
MAX_OPENED = 50
"""Mailboxes of one list that are selected for their numbers, since STATUS does not tell them."""
NAME_BYTES = 2_000
"""The longest name of a mailbox (UTF-8) that the index takes."""
_OBJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""RFC 8474 §7."""


def status_items(session: Session) -> list[str]:
    """What STATUS is asked for."""
    return [*commands.STATUS_ITEMS, *(["HIGHESTMODSEQ"] if session.keeps_modseq else [])]


async def list_mailboxes(session: Session, *, with_ids: bool = False) -> list[OriginMailbox]:
    """Every mailbox with its STATUS: LIST-STATUS in one round trip, else LIST and LSUB, then pipelined STATUS.

    `with_ids` asks along for MAILBOXIDs where LIST-STATUS tells them; nothing may be selected then. INBOX is among them
    also where the list lacks it: there is one (RFC 9051 §5.1).
    """
    if session.has("LIST-EXTENDED", "LIST-STATUS") and LIST_STATUS not in session.avoided:
        at_once = await _list_at_once(session, with_ids=with_ids and session.has("OBJECTID"))
        if at_once is not None:
            return at_once
    listed, subscribed = await session.run(
        commands.list_mailboxes(is_utf8=session.is_utf8), commands.list_subscribed(is_utf8=session.is_utf8)
    )
    names = {mailbox.name for mailbox in _listed(session, subscribed)} if subscribed.status == "OK" else None
    found = _with_roles(
        [
            _origin_mailbox(session, mailbox, is_subscribed=names is None or mailbox.name in names)
            for mailbox in _listed(session, listed.check())
        ]
    )
    return await ask_status(session, _with_inbox(session, found))


def _with_inbox(session: Session, mailboxes: list[OriginMailbox]) -> list[OriginMailbox]:
    if any(mailbox.origin_name == "INBOX" for mailbox in mailboxes):
        return mailboxes
    inbox = ListedMailbox("INBOX", session.delimiter, frozenset())
    return [_origin_mailbox(session, inbox, is_subscribed=True), *mailboxes]


async def ask_status(session: Session, mailboxes: Sequence[OriginMailbox]) -> list[OriginMailbox]:
    """The same mailboxes with the numbers of now, by pipelined STATUS.

    Courier tells the time of day as the UIDVALIDITY of a mailbox that was never opened: so each is opened once.
    Mailboxes that may have cost a connection are asked about one by one, after the others.
    """
    asked = [
        mailbox.origin_name
        for mailbox in mailboxes
        if mailbox.is_selectable and mailbox.origin_name not in session.avoided
    ]
    if session.is_courier:
        unopened = [name for name in asked if name not in session.opened]
        for start in range(0, len(unopened), MAX_PIPELINED):
            await session.open_each(unopened[start : start + MAX_PIPELINED])
    suspects = session.avoided.suspects
    plain = [name for name in asked if name not in suspects]
    batches = [plain[start : start + MAX_PIPELINED] for start in range(0, len(plain), MAX_PIPELINED)]
    statuses: dict[str, MailboxStatus] = {}
    for batch in [*batches, *([name] for name in asked if name in suspects)]:
        statuses.update(await _ask_batch(session, batch))
    return [
        with_status(mailbox, statuses[mailbox.origin_name]) if mailbox.origin_name in statuses else mailbox
        for mailbox in mailboxes
    ]


async def _ask_batch(session: Session, names: Sequence[str]) -> dict[str, MailboxStatus]:
    items, statuses = status_items(session), {}
    asked = [commands.status(name, items, is_utf8=session.is_utf8) for name in names]
    with noting_loss(session, names):
        for name, completion in zip(names, await session.run(*asked), strict=True):
            statuses.update(_status_of(session, name, completion, names))
    return statuses


@contextmanager
def noting_loss(session: Session, names: Sequence[str]) -> Iterator[None]:
    """Note where the connection is lost while the server is asked about these mailboxes, or that it answered."""
    try:
        yield
    except Unreachable:
        session.avoided.note_loss(names)
        raise
    if session.avoided.suspects:
        for name in names:
            session.avoided.clear(name)


async def with_numbers(session: Session, mailboxes: Sequence[OriginMailbox]) -> list[OriginMailbox]:
    """The same mailboxes; one of which STATUS tells too little with the numbers that SELECT tells."""
    left = MAX_OPENED
    found = []
    for mailbox in mailboxes:
        is_lacking = mailbox.is_selectable and None in (mailbox.uid_next, mailbox.total, mailbox.uid_validity)
        if is_lacking and left and mailbox.origin_name not in session.avoided:
            left -= 1
            found.append(await _by_select(session, mailbox))
        else:
            found.append(mailbox)
    return found


async def _by_select(session: Session, mailbox: OriginMailbox) -> OriginMailbox:
    name = mailbox.origin_name
    try:
        with noting_loss(session, [name]):
            selected, _ = await session.select(name)
            uid_next = selected.uid_next or await _next_uid(session)
    except (MailboxNotFound, ServerRefused, ServerProtocolError):
        return mailbox
    modseq = selected.highest_modseq or None
    return replace(
        mailbox,
        uid_validity=selected.uid_validity,
        uid_next=uid_next,
        highest_modseq=modseq,
        total=selected.exists,
    )


async def _next_uid(session: Session) -> int:
    """One more than the highest UID of the selected mailbox: SELECT need not tell it (RFC 3501 §6.3.1)."""
    (completion,) = await session.run(commands.fetch(SequenceSet.parse("*"), ("UID",)))
    return max(await fetched(completion, is_tolerant=True), default=0) + 1


def _status_of(session: Session, name: str, completion: Completion, asked: Collection[str]) -> dict[str, MailboxStatus]:
    """What STATUS told, by name; an answer about none that was asked is that of the mailbox, spelled in another way."""
    found = _statuses(session, completion)
    other = [status for told, status in found.items() if told not in asked]
    if name not in found and len(other) == 1 and completion.status == "OK":
        found[name] = other[0]
    return found


def with_status(mailbox: OriginMailbox, status: MailboxStatus) -> OriginMailbox:
    items = status.items
    validity = items.get("UIDVALIDITY")
    return replace(
        mailbox,
        uid_validity=mailbox.uid_validity if validity is None else validity_of(validity),
        uid_next=items.get("UIDNEXT", mailbox.uid_next),
        highest_modseq=items.get("HIGHESTMODSEQ", mailbox.highest_modseq),
        total=items.get("MESSAGES", mailbox.total),
        unread=items.get("UNSEEN", mailbox.unread),
    )


def path_of(name: str, delimiter: str | None, prefix: str) -> str:
    """The readable path of a mailbox: "Work/Projects" of "INBOX.Work.Projects" where the prefix is "INBOX."."""
    own = name.removeprefix(prefix) or name
    levels = own.split(delimiter) if delimiter else [own]
    if own == name and levels[0].upper() == "INBOX":  # in any case, also above others (RFC 9051 §5.1)
        levels[0] = "INBOX"
    is_split = delimiter not in (None, "/")
    return "/".join([level.replace("/", _LEVEL_SLASH) for level in levels] if is_split else levels)


def name_of(path: str, delimiter: str | None, prefix: str) -> str:
    """The origin's name of a path, the inverse of `path_of`. Raises InvalidRequest for one that cannot be."""
    if path.upper() == "INBOX":
        return "INBOX"
    levels = path.split("/")
    if not all(levels) or (delimiter is None and len(levels) > 1):
        raise InvalidRequest.at("/name", "A mailbox with this name cannot be created here")
    if delimiter is not None and delimiter != "/":
        levels = [level.replace(_LEVEL_SLASH, "/") for level in levels]
        if any(delimiter in level for level in levels):
            raise InvalidRequest.at("/name", f"A mailbox name may not hold {delimiter!r} on this server")
    return prefix + (delimiter or "/").join(levels)


def name_below(path: str, known: Iterable[Mailbox], delimiter: str | None, prefix: str) -> str:
    """The origin's name of a new path: what is above it is named as the origin names it."""
    above = max(
        (mailbox for mailbox in known if path.startswith(f"{mailbox.path}/")),
        key=lambda one: len(one.path),
        default=None,
    )
    if above is None:
        return name_of(path, delimiter, prefix)
    if above.delimiter is None:
        raise InvalidRequest.at("/name", "A mailbox with this name cannot be created here")
    below = name_of(path[len(above.path) + 1 :], above.delimiter, "")
    return rebased(f"{above.delimiter}{below}", "", above.origin_name)


async def _list_at_once(session: Session, *, with_ids: bool) -> list[OriginMailbox] | None:
    """None where the server offers LIST-STATUS and refuses it."""
    returning = ["SUBSCRIBED", "CHILDREN", *(["SPECIAL-USE"] if session.has("SPECIAL-USE") else [])]
    asked = commands.list_mailboxes(returning=returning, status=status_items(session), is_utf8=session.is_utf8)
    with noting_loss(session, [LIST_STATUS]):
        completion, *further = await session.run(asked, *([_list_ids(session)] if with_ids else []))
    if completion.status != "OK" and not completion.is_throttling:
        return None
    statuses = _statuses(session, completion.check())
    found = [
        _origin_mailbox(session, mailbox, is_subscribed="\\subscribed" in mailbox.attributes)
        for mailbox in _listed(session, completion)
    ]
    told = [
        with_status(mailbox, statuses[mailbox.origin_name]) if mailbox.origin_name in statuses else mailbox
        for mailbox in _with_roles(found)
    ]
    if "INBOX" not in {mailbox.origin_name for mailbox in told}:
        told = [*await ask_status(session, _with_inbox(session, [])), *told]
    ids = _ids(session, *further)
    return (
        [replace(mailbox, origin_id=ids.get((mailbox.origin_name, mailbox.uid_validity))) for mailbox in told]
        if ids
        else told
    )


def _list_ids(session: Session) -> Command:
    """A LIST of its own: Cyrus 3.6 tells freed memory as MAILBOXID where STATUS asks for what opens the mailbox too.

    Later ones fail an assertion where a mailbox that is selected need not be opened.
    """
    return commands.list_mailboxes(status=["MAILBOXID", "UIDVALIDITY"], is_utf8=session.is_utf8)


def _ids(session: Session, *completions: Completion) -> dict[tuple[str, int | None], str]:
    """(name, UIDVALIDITY) → MAILBOXID: a mailbox that was created again is another one."""
    statuses = [one for completion in completions for one in _statuses(session, completion).values()]
    found = {(status.name, status.items.get("UIDVALIDITY")): status.texts.get("MAILBOXID", "") for status in statuses}
    return {key: id_ for key, id_ in found.items() if _OBJECT_ID.fullmatch(id_)}


def _listed(session: Session, completion: Completion) -> list[ListedMailbox]:
    found = [response for response in session.parsed(completion) if isinstance(response, ListedMailbox)]
    return [
        mailbox
        for mailbox in found
        if _is_storable(mailbox.name) and ("\\nonexistent" not in mailbox.attributes or mailbox.child_info)
    ]


def _is_storable(name: str) -> bool:
    """Whether the index can hold a name as it is, and a command can name it: else the mailbox could not be selected."""
    is_short = len(name.encode(errors="replace")) <= NAME_BYTES
    if is_short and name and storable(name) == name and not any(character in name for character in "\r\n"):
        return True
    log.warning("mailbox_left_out", name_chars=len(name))
    return False


def _statuses(session: Session, completion: Completion) -> dict[str, MailboxStatus]:
    return {response.name: response for response in session.parsed(completion) if isinstance(response, MailboxStatus)}


def _origin_mailbox(session: Session, listed: ListedMailbox, *, is_subscribed: bool) -> OriginMailbox:
    role = Role.INBOX if listed.name == "INBOX" else None
    return OriginMailbox(
        origin_name=listed.name,
        path=storable(path_of(listed.shown or listed.name, listed.delimiter, session.prefix)),
        delimiter=listed.delimiter,
        role=next((ROLES[attribute] for attribute in sorted(listed.attributes) if attribute in ROLES), role),
        is_selectable=not listed.attributes & _UNSELECTABLE,
        is_subscribed=is_subscribed or listed.name == "INBOX",
    )


def _with_roles(mailboxes: list[OriginMailbox]) -> list[OriginMailbox]:
    """Roles by name for those that the server names none for; each role once."""
    taken = {mailbox.role for mailbox in mailboxes}
    completed = []
    for mailbox in mailboxes:
        role = ROLES_BY_NAME.get(mailbox.path.lower())
        if mailbox.role is None and role is not None and role not in taken:
            taken.add(role)
            completed.append(replace(mailbox, role=role))
        else:
            completed.append(mailbox)
    return completed
