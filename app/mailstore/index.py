"""The index: one row a message, two writers (a mirror of the origin, or the mailbox itself), one way to change it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    and_,
    bindparam,
    func,
    or_,
    select,
    union,
    update,
)

from app import faults
from app.cluster.bus import Bus
from app.db.session import Database, Statement, Transaction, is_one_of, json_list
from app.db.tables import ACCOUNT, DETAIL, EVENT, LEASE, MAILBOX, MESSAGE, PLACEMENT, SUBMISSION
from app.errors import AccountNotFound, Conflict, MailboxNotFound, MessageNotFound
from app.mail.delta import Delta, Known, Location
from app.mail.filter import Filter, names_mailbox
from app.mail.roster import Roster
from app.mail.types import AccountId, AccountKind, Detail, Flags, Mailbox, MailboxId, Message, MessageId, Position
from app.mailstore.changes import Applied, write_delta
from app.mailstore.placed import HAS_PLACEMENTS, KNOWN_ORIGINS, PLACES, here, newest_further, of_both
from app.mailstore.rows import detail_of, flags_of, mailbox_of, message_of
from app.mailstore.search import condition_of

_ACCOUNT_ID: BindParameter[str] = bindparam("account_id")
_OF_ACCOUNT = MESSAGE.c.account_id == _ACCOUNT_ID
_IN_MAILBOX = MESSAGE.c.mailbox_id == bindparam("mailbox_id")

_LOCK: Statement = (
    update(ACCOUNT)
    .where(ACCOUNT.c.id == _ACCOUNT_ID)
    .values(last_seq=ACCOUNT.c.last_seq)
    .returning(ACCOUNT.c.last_seq, ACCOUNT.c.last_event_ms, ACCOUNT.c.kind)
)
_ADVANCE: Statement = (
    update(ACCOUNT)
    .where(ACCOUNT.c.id == _ACCOUNT_ID)
    .values(last_seq=bindparam("seq"), last_event_ms=bindparam("at_ms"))
)
_EPOCH: Statement = select(LEASE.c.epoch).where(LEASE.c.account_id == _ACCOUNT_ID)

_MAILBOX_COLUMNS = (
    MAILBOX.c.account_id, MAILBOX.c.id, MAILBOX.c.path, MAILBOX.c.origin_name, MAILBOX.c.delimiter, MAILBOX.c.role,
    MAILBOX.c.uid_validity, MAILBOX.c.uid_next, MAILBOX.c.highest_modseq, MAILBOX.c.total, MAILBOX.c.unread,
    MAILBOX.c.is_subscribed, MAILBOX.c.is_selectable, MAILBOX.c.is_complete,
)  # fmt: skip
_THE_MAILBOX: Statement = select(*_MAILBOX_COLUMNS).where(
    MAILBOX.c.account_id == _ACCOUNT_ID, MAILBOX.c.id == bindparam("mailbox_id")
)
_MAILBOX_AT: Statement = select(MAILBOX.c.id).where(
    MAILBOX.c.account_id == _ACCOUNT_ID, MAILBOX.c.path == bindparam("path")
)
_MAILBOXES: Statement = select(*_MAILBOX_COLUMNS).where(MAILBOX.c.account_id == _ACCOUNT_ID).order_by(MAILBOX.c.path)

MESSAGE_COLUMNS = (
    MESSAGE.c.account_id, MESSAGE.c.id, MESSAGE.c.mailbox_id, MESSAGE.c.uid, MESSAGE.c.modseq, MESSAGE.c.version,
    MESSAGE.c.flags, MESSAGE.c.received_at_ms, MESSAGE.c.size_bytes, MESSAGE.c.thread_id, MESSAGE.c.message_id_header,
    MESSAGE.c.preview, MESSAGE.c.blob, MESSAGE.c.summary, MESSAGE.c.further,
)  # fmt: skip
_BY_IDS: Statement = select(*MESSAGE_COLUMNS).where(_OF_ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("ids")))
_BY_ID: Statement = select(*MESSAGE_COLUMNS).where(_OF_ACCOUNT, MESSAGE.c.id == bindparam("id"))
_BY_UIDS = here(*MESSAGE_COLUMNS, uid="uids")
_BY_HEADER: Statement = select(*MESSAGE_COLUMNS).where(_OF_ACCOUNT, MESSAGE.c.message_id_header == bindparam("header"))
_BY_HEADERS: Statement = select(*MESSAGE_COLUMNS).where(
    _OF_ACCOUNT, is_one_of(MESSAGE.c.message_id_header, bindparam("headers"))
)
_WITHOUT_HEADER: Statement = select(*MESSAGE_COLUMNS).where(
    _OF_ACCOUNT, MESSAGE.c.message_id_header.is_(None), is_one_of(MESSAGE.c.received_at_ms, bindparam("times"))
)
_BY_ORIGINS: Statement = select(MESSAGE.c.origin_id, *MESSAGE_COLUMNS).where(
    _OF_ACCOUNT, MESSAGE.c.origin_id.is_not(None), is_one_of(MESSAGE.c.origin_id, bindparam("origin_ids"))
)
_ARRIVED_SINCE: Statement = (
    select(MESSAGE.c.id)
    .join(EVENT, and_(EVENT.c.account_id == MESSAGE.c.account_id, EVENT.c.seq == MESSAGE.c.created_seq))
    .where(_OF_ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("ids")), EVENT.c.at_ms >= bindparam("since_ms"))
)
_PROOFS: Statement = select(DETAIL.c.id, DETAIL.c.structure, DETAIL.c.digest).where(
    DETAIL.c.account_id == _ACCOUNT_ID, is_one_of(DETAIL.c.id, bindparam("ids"))
)
_DETAIL: Statement = select(DETAIL.c.structure, DETAIL.c.extra, DETAIL.c.header).where(
    DETAIL.c.account_id == _ACCOUNT_ID, DETAIL.c.id == bindparam("id")
)
_IDS_AT = here(MESSAGE.c.id, uid="uids")
_OF_THREADS: Statement = (
    select(MESSAGE.c.thread_id, MESSAGE.c.id, MESSAGE.c.mailbox_id, MESSAGE.c.further, MESSAGE.c.summary)
    .where(_OF_ACCOUNT, is_one_of(MESSAGE.c.thread_id, bindparam("threads")))
    .order_by(MESSAGE.c.received_at_ms, MESSAGE.c.uid)
)
_STANDING: Statement = (
    select(
        ACCOUNT.c.last_seq,
        ACCOUNT.c.last_event_ms,
        ACCOUNT.c.sync_status,
        ACCOUNT.c.sync_mode,
        ACCOUNT.c.checked_at_ms,
        MAILBOX.c.uid_validity,
        MAILBOX.c.is_complete,
        MAILBOX.c.total,
        ACCOUNT.c.has_placements,
        ACCOUNT.c.kind,
    )
    .outerjoin(MAILBOX, and_(MAILBOX.c.account_id == ACCOUNT.c.id, MAILBOX.c.id == bindparam("mailbox_id")))
    .where(ACCOUNT.c.id == _ACCOUNT_ID)
)
_KNOWN: Statement = (
    of_both(
        (MESSAGE.c.uid, MESSAGE.c.flags, MESSAGE.c.modseq),
        (MESSAGE.c.uid > bindparam("after_uid"),),
        (PLACEMENT.c.uid > bindparam("after_uid"),),
    )
    .order_by("uid")
    .limit(bindparam("limit"))
)
_WITHOUT_PREVIEW: Statement = (
    select(*MESSAGE_COLUMNS)
    .where(_OF_ACCOUNT, _IN_MAILBOX, MESSAGE.c.preview.is_(None))
    .order_by(MESSAGE.c.uid.desc())
    .limit(bindparam("limit"))
)
_BLOBS_IN_USE: Statement = union(
    select(MESSAGE.c.blob).where(is_one_of(MESSAGE.c.blob, bindparam("names"))),
    select(SUBMISSION.c.blob).where(is_one_of(SUBMISSION.c.blob, bindparam("names"))),
)

_LISTED = (MESSAGE.c.received_at_ms, MESSAGE.c.uid, MESSAGE.c.id, MESSAGE.c.summary)
_NEWEST_FIRST = (MESSAGE.c.received_at_ms.desc(), MESSAGE.c.uid.desc(), MESSAGE.c.id.desc())
_FIRST_PAGE: Statement = (
    select(*_LISTED).where(_OF_ACCOUNT, _IN_MAILBOX).order_by(*_NEWEST_FIRST).limit(bindparam("limit"))
)
_FIRST_PLACED = newest_further(_LISTED)


@dataclass(frozen=True, slots=True)
class Proof:
    """A message's structure as stored, and the digest of its bytes where they were read."""

    structure: bytes | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place in a sorted list: the key of the message that stands there."""

    sort_value: int | str
    uid: int
    id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How far an account's index is, read in one query before a list.

    `seq` and `at_ms` are of its last event. The three from `uid_validity` are of one mailbox; None where there is none.
    """

    seq: int
    at_ms: int
    sync_status: str
    sync_mode: str
    checked_at_ms: int
    uid_validity: int | None
    is_complete: bool | None
    total: int | None
    has_placements: bool | None = None
    """Whether messages of the account have been in several mailboxes at once."""
    kind: str = AccountKind.IMAP.value

    @property
    def position(self) -> Position:
        """Where the account's log ends."""
        return Position(self.seq, self.at_ms)


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list: its place, and its prepared summary."""

    anchor: Anchor
    summary: bytes


@dataclass(frozen=True, slots=True)
class Sort:
    """By which column: received_at, date, size, subject or from."""

    key: str = "received_at"
    is_descending: bool = True


SORTED_CHARS = 200
"""Characters of a text that order a list, so that an anchor stays short."""
_SORT_COLUMNS: dict[str, ColumnElement[Any]] = {
    "received_at": MESSAGE.c.received_at_ms,
    "date": func.coalesce(MESSAGE.c.date_ms, MESSAGE.c.received_at_ms),
    "size": MESSAGE.c.size_bytes,
    "subject": func.substr(MESSAGE.c.subject_folded, 1, SORTED_CHARS),
    "from": func.substr(MESSAGE.c.from_folded, 1, SORTED_CHARS),
}
NEWEST_FIRST = Sort()

KNOWN_AT_ONCE = 5_000
LONG_FROM_ROWS = 500
"""From this many rows on a read goes to a thread."""

SHORT_FACTS = 4
"""Up to so many facts are written without another thread."""

Decide = Callable[[Transaction], Awaitable[Delta]]


class Index:
    """Every account's mailboxes and messages."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    # ---- changing

    async def apply(
        self, account_id: AccountId, delta: Delta, *, fence: int | None = None, is_durable: bool = False
    ) -> Applied:
        """Write what changed, with its events, in one transaction; then wake those who follow.

        Safe to repeat. `fence` is the epoch of the lease under which a watcher speaks: Conflict when another holds it.
        Raises AccountNotFound.
        """

        async def decide(_: Transaction) -> Delta:
            return delta

        return await self.change(account_id, decide, fence=fence, is_durable=is_durable, is_short=_is_short(delta))

    async def change(
        self,
        account_id: AccountId,
        decide: Decide,
        *,
        fence: int | None = None,
        is_durable: bool = True,
        is_short: bool = False,
    ) -> Applied:
        """Read under the account's lock, decide, and write what was decided. `decide` awaits only its transaction.

        `is_short`: see `Database.write`.
        """

        async def work(transaction: Transaction) -> Applied:
            return await self.change_in(transaction, account_id, decide, fence=fence)

        applied = await self._database.write(work, is_durable=is_durable, is_short=is_short)
        faults.point("index.committed")
        if applied.seq != applied.seq_before:
            self._bus.poke(account_id)
        return applied

    async def change_in(
        self, transaction: Transaction, account_id: AccountId, decide: Decide, *, fence: int | None = None
    ) -> Applied:
        """The same as a part of a larger transaction. It wakes nobody: whoever commits does."""
        row = await transaction.row(_LOCK, account_id=account_id)
        if row is None:
            raise AccountNotFound
        before, kind = Position(row[0], row[1]), row[2]
        await _check_fence(transaction, account_id, fence)
        delta = await decide(transaction)
        is_origin = AccountKind(kind).is_kept_here
        written = await write_delta(transaction, account_id, before, delta, is_origin=is_origin)
        if written.seq != before.seq:
            await transaction.execute(_ADVANCE, account_id=account_id, seq=written.seq, at_ms=written.at_ms)
        faults.point("index.before_commit")
        return written

    # ---- mailboxes

    async def mailboxes(self, account_id: AccountId) -> list[Mailbox]:
        """All mailboxes of an account, by path."""
        rows = await self._database.rows(_MAILBOXES, account_id=account_id)
        parents = {row[2]: MailboxId(row[1]) for row in rows}
        return [mailbox_of(row, parents) for row in rows]

    async def mailbox(self, account_id: AccountId, mailbox_id: str) -> Mailbox:
        """Raises MailboxNotFound."""
        row = await self._database.row(_THE_MAILBOX, account_id=account_id, mailbox_id=mailbox_id)
        if row is None:
            raise MailboxNotFound
        above = row[2].rpartition("/")[0]
        parent = await self._database.row(_MAILBOX_AT, account_id=account_id, path=above) if above else None
        return mailbox_of(row, {above: MailboxId(parent[0])} if parent is not None else {})

    async def standing(self, account_id: AccountId, mailbox_id: str | None = None) -> Standing:
        """Raises AccountNotFound."""
        row = await self._database.row(_STANDING, account_id=account_id, mailbox_id=mailbox_id)
        if row is None:
            raise AccountNotFound
        return Standing(*row)

    # ---- messages

    async def find(self, account_id: AccountId, ids: Sequence[str]) -> list[Message]:
        """Those that exist, in the order asked for."""
        rows = await self._database.rows(_BY_IDS, account_id=account_id, ids=json_list(list(ids)))
        found = {row[1]: message_of(row) for row in rows}
        return [found[id_] for id_ in dict.fromkeys(ids) if id_ in found]

    async def message(self, account_id: AccountId, message_id: str) -> Message:
        """Raises MessageNotFound."""
        row = await self._database.row(_BY_ID, account_id=account_id, id=message_id)
        if row is None:
            raise MessageNotFound
        return message_of(row)

    async def detail(self, account_id: AccountId, message_id: MessageId) -> Detail:
        """What is kept of one message beside its row; MessageNotFound."""
        row = await self._database.row(_DETAIL, account_id=account_id, id=message_id)
        if row is None:
            raise MessageNotFound
        return detail_of(*row)

    async def locate(self, account_id: AccountId, mailbox_id: MailboxId, uids: Collection[int]) -> list[Message]:
        """Messages of a mailbox by UID, in no order."""
        rows = await self._database.rows(
            _BY_UIDS, account_id=account_id, mailbox_id=mailbox_id, uids=json_list(list(uids))
        )
        return [message_of(row) for row in rows]

    async def at(self, account_id: AccountId, location: Location) -> Message:
        """The message at a location; MessageNotFound."""
        found = await self.locate(account_id, location.mailbox_id, [location.uid])
        if not found:
            raise MessageNotFound
        return found[0]

    async def places(self, message: Message) -> list[tuple[Location, int]]:
        """Where a message is, its first place first, each with the MODSEQ known of it there."""
        if not message.further:
            return [(Location(message.mailbox_id, message.uid), message.modseq)]
        rows = await self._database.rows(PLACES, account_id=message.account_id, id=message.id)
        return [(Location(MailboxId(row[0]), row[1]), row[2]) for row in rows]

    async def known_origins(self, account_id: AccountId, origin_ids: Collection[str]) -> set[str]:
        """Those of the origin's ids that messages here have."""
        values = json_list(list(origin_ids))
        rows = await self._database.rows(KNOWN_ORIGINS, account_id=account_id, origin_ids=values)
        return {row[0] for row in rows}

    async def ids_at(self, account_id: AccountId, mailbox_id: MailboxId, uids: Collection[int]) -> list[MessageId]:
        """Ids of a mailbox's messages by UID, in no order."""
        values = json_list(list(uids))
        rows = await self._database.rows(
            _IDS_AT, is_long=len(uids) > LONG_FROM_ROWS, account_id=account_id, mailbox_id=mailbox_id, uids=values
        )
        return [MessageId(row[0]) for row in rows]

    async def threads(
        self, account_id: AccountId, thread_ids: Collection[str]
    ) -> dict[str, list[tuple[MessageId, list[MailboxId]]]]:
        """The messages of each thread, with their mailboxes, oldest first."""
        rows = await self._database.rows(_OF_THREADS, account_id=account_id, threads=json_list(list(thread_ids)))
        found: dict[str, list[tuple[MessageId, list[MailboxId]]]] = {id_: [] for id_ in thread_ids}
        for thread_id, id_, mailbox_id, further, summary in rows:
            places = orjson.loads(summary)["mailbox_ids"] if further else [MailboxId(mailbox_id)]
            found[thread_id].append((MessageId(id_), places))
        return found

    async def with_header(self, account_id: AccountId, message_id_header: str) -> list[Message]:
        """Messages with this Message-ID, wherever they are."""
        rows = await self._database.rows(_BY_HEADER, account_id=account_id, header=message_id_header)
        return [message_of(row) for row in rows]

    async def with_headers(self, account_id: AccountId, message_id_headers: Collection[str]) -> list[Message]:
        """Messages with one of these Message-IDs, wherever they are, in no order."""
        headers = json_list(list(message_id_headers))
        rows = await self._database.rows(_BY_HEADERS, account_id=account_id, headers=headers)
        return [message_of(row) for row in rows]

    async def without_header(self, account_id: AccountId, times_ms: Collection[int]) -> list[Message]:
        """Messages without a Message-ID whose INTERNALDATE is one of these, wherever they are, in no order."""
        rows = await self._database.rows(_WITHOUT_HEADER, account_id=account_id, times=json_list(list(times_ms)))
        return [message_of(row) for row in rows]

    async def with_origin_ids(self, account_id: AccountId, origin_ids: Collection[str]) -> list[tuple[str, Message]]:
        """Messages that the origin knows by one of these ids, each with its id, in no order."""
        rows = await self._database.rows(_BY_ORIGINS, account_id=account_id, origin_ids=json_list(list(origin_ids)))
        return [(row[0], message_of(row[1:])) for row in rows]

    async def arrived_since(self, account_id: AccountId, ids: Collection[MessageId], since_ms: int) -> set[MessageId]:
        """Those of the messages that were told as new since then."""
        rows = await self._database.rows(
            _ARRIVED_SINCE, account_id=account_id, ids=json_list(list(ids)), since_ms=since_ms
        )
        return {MessageId(row[0]) for row in rows}

    async def proofs(self, account_id: AccountId, ids: Collection[MessageId]) -> Mapping[MessageId, Proof]:
        """What is kept of each message that tells it from others like it."""
        rows = await self._database.rows(_PROOFS, account_id=account_id, ids=json_list(list(ids)))
        return defaultdict(Proof, {MessageId(row[0]): Proof(row[1], row[2]) for row in rows})

    async def known(self, account_id: AccountId, mailbox_id: MailboxId) -> Mapping[int, Known]:
        """UID → flags of everything the index has of a mailbox, read a piece at a time."""
        known = Roster()
        flags: dict[str, Flags] = {}
        values = {"account_id": account_id, "mailbox_id": mailbox_id, "limit": KNOWN_AT_ONCE}
        uid = 0
        while True:
            rows = await self._database.rows(_KNOWN, is_long=True, after_uid=uid, **values)
            for uid, text, modseq in rows:
                if text not in flags:
                    flags[text] = flags_of(text)
                known.put(uid, flags[text], modseq)
            if len(rows) < KNOWN_AT_ONCE:
                return known

    async def without_preview(self, account_id: AccountId, mailbox_id: MailboxId, limit: int) -> list[Message]:
        """Messages whose preview has not been read yet, newest first."""
        rows = await self._database.rows(
            _WITHOUT_PREVIEW, is_long=True, account_id=account_id, mailbox_id=mailbox_id, limit=limit
        )
        return [message_of(row) for row in rows]

    async def first_page(
        self, account_id: AccountId, mailbox_id: str, limit: int, *, has_placements: bool | None = False
    ) -> list[Listed]:
        """The newest messages of a mailbox: what a list asks for most, in one prepared query.

        `has_placements` (see Standing): in two, as messages may have it for a further place.
        """
        rows = await self._database.rows(_FIRST_PAGE, account_id=account_id, mailbox_id=mailbox_id, limit=limit)
        if has_placements:
            placed = await self._database.rows(_FIRST_PLACED, account_id=account_id, mailbox_id=mailbox_id, limit=limit)
            by_id = {row[2]: row for row in (*rows, *placed)}
            rows = sorted(by_id.values(), key=lambda row: row[:3], reverse=True)[:limit]
        return [Listed(Anchor(row[0], row[1], row[2]), row[3]) for row in rows]

    async def search(
        self,
        account_id: AccountId,
        tree: Filter,
        *,
        sort: Sort = NEWEST_FIRST,
        limit: int,
        after: Anchor | None = None,
        before: Anchor | None = None,
    ) -> list[Listed]:
        """Up to `limit` messages that match, sorted, after an anchor; or, with `before`, those next to it before it.

        Ties go by highest UID, then id. The tree holds no Text leaf any more.
        """
        condition = await self._condition(account_id, tree)
        column = _SORT_COLUMNS[sort.key]
        is_descending = sort.is_descending == (before is None)
        order = [one.desc() if is_descending else one.asc() for one in (column, MESSAGE.c.uid, MESSAGE.c.id)]
        statement = select(column, *_LISTED[1:]).where(_OF_ACCOUNT, condition).order_by(*order).limit(limit)
        anchor = before or after
        if anchor is not None:
            statement = statement.where(_beyond(column, anchor, is_descending=is_descending))
        rows = await self._database.rows(statement, is_long=True, account_id=account_id)
        listed = [Listed(Anchor(row[0], row[1], row[2]), row[3]) for row in rows]
        return listed[::-1] if before is not None else listed

    async def count(self, account_id: AccountId, tree: Filter) -> int:
        """How many match."""
        condition = await self._condition(account_id, tree)
        statement = select(func.count()).select_from(MESSAGE).where(_OF_ACCOUNT, condition)
        row = await self._database.rows(statement, is_long=True, account_id=account_id)
        return int(row[0][0])

    async def matching_ids(self, account_id: AccountId, tree: Filter, limit: int) -> list[MessageId]:
        """Ids of what matches, newest first."""
        condition = await self._condition(account_id, tree)
        statement = select(MESSAGE.c.id).where(_OF_ACCOUNT, condition).order_by(*_NEWEST_FIRST).limit(limit)
        rows = await self._database.rows(statement, is_long=True, account_id=account_id)
        return [MessageId(row[0]) for row in rows]

    async def _condition(self, account_id: AccountId, tree: Filter) -> ColumnElement[bool]:
        row = await self._database.row(HAS_PLACEMENTS, account_id=account_id) if names_mailbox(tree) else None
        return condition_of(tree, has_placements=row is not None and bool(row[0]))

    async def blobs_in_use(self, names: Sequence[str]) -> set[str]:
        """Those of the blobs that a message or a submission still needs."""
        rows = await self._database.rows(_BLOBS_IN_USE, is_long=True, names=json_list(list(names)))
        return {row[0] for row in rows}


def _beyond(column: ColumnElement[Any], anchor: Anchor, *, is_descending: bool) -> ColumnElement[bool]:
    """A message comes after `anchor` in the order, spelled out so that both databases use their index."""
    uid, id_ = MESSAGE.c.uid, MESSAGE.c.id
    is_tied = column == anchor.sort_value
    if is_descending:
        first, second, third = column < anchor.sort_value, uid < anchor.uid, id_ < anchor.id
    else:
        first, second, third = column > anchor.sort_value, uid > anchor.uid, id_ > anchor.id
    return or_(first, and_(is_tied, second), and_(is_tied, uid == anchor.uid, third))


def _is_short(delta: Delta) -> bool:
    """Whether it changes a few rows: a mailbox that ends or begins anew takes any number of messages along.

    A text that comes or goes is long by itself: each of its trigrams is a change.
    """
    are_long = delta.mailboxes_reset or delta.mailboxes_deleted or delta.texted or delta.removed
    return delta.facts <= SHORT_FACTS and not are_long


async def _check_fence(transaction: Transaction, account_id: AccountId, fence: int | None) -> None:
    if fence is None:
        return
    row = await transaction.row(_EPOCH, account_id=account_id)
    if row is None or row[0] != fence:
        raise Conflict("Another worker holds this account now")
