"""Filter trees as SQL over the index."""

from __future__ import annotations

import zlib

from sqlalchemy import ColumnElement, and_, exists, false, literal, not_, or_, true

from app.db.session import is_one_of, json_list
from app.db.tables import MESSAGE, PLACEMENT
from app.db.text_search import has_text, holds
from app.mail import filter as f
from app.mail.searchable import TextState, fold

_FOLDED = {
    "subject": MESSAGE.c.subject_folded,
    "from": MESSAGE.c.from_folded,
    "to": MESSAGE.c.to_folded,
    "cc": MESSAGE.c.cc_folded,
    "bcc": MESSAGE.c.bcc_folded,
}
_FIELDS = {"body": ("body",), "text": ("body", "header"), "header": ("header",)}


def condition_of(tree: f.Filter, *, has_placements: bool = False) -> ColumnElement[bool]:
    """Return the condition of a tree without Text leaves (which are answered before, see `filter.with_answers`).

    `has_placements`: messages of this account may have further placements.
    """
    match tree:
        case f.All(of):
            return and_(true(), *(condition_of(condition, has_placements=has_placements) for condition in of))
        case f.Any(of):
            return or_(false(), *(condition_of(condition, has_placements=has_placements) for condition in of))
        case f.Not(of):
            return not_(condition_of(of, has_placements=has_placements))
        case f.InMailbox(mailbox_id) if has_placements:
            return or_(MESSAGE.c.mailbox_id == mailbox_id, and_(MESSAGE.c.further > 0, _is_placed_in(mailbox_id)))
        case _:
            return _leaf(tree)


def _leaf(leaf: f.Filter) -> ColumnElement[bool]:
    match leaf:
        case f.Contains() | f.IndexedText() | f.Unindexed():
            return _text(leaf)
        case f.InMailbox(mailbox_id):
            return MESSAGE.c.mailbox_id == mailbox_id
        case f.HasAttachments(value):
            return MESSAGE.c.has_attachments.is_(value)
        case f.MessageIdHeader(value):
            return MESSAGE.c.message_id_header == value
        case f.IsOneOf(ids):
            return is_one_of(MESSAGE.c.id, literal(json_list(list(ids))))
        case f.HasFlag(flag):
            return _has_flag(flag)
        case _:
            return _between(leaf)


def _text(leaf: f.Contains | f.IndexedText | f.Unindexed) -> ColumnElement[bool]:
    match leaf:
        case f.Contains(field, value):
            return holds(_FOLDED[field], fold(value))
        case f.IndexedText(account_id, scope, folded):
            return text_condition(account_id, scope, folded)
        case f.Unindexed():
            return MESSAGE.c.text_state != int(TextState.INDEXED)


def text_condition(account_id: str, scope: str, folded: str) -> ColumnElement[bool]:
    """Return the condition that a message is indexed and its body, text or header ("header") contains folded text."""
    if "\0" in folded:  # which no text contains, and neither database accepts
        return false()
    return has_text(MESSAGE.c.id, account_id, search_range(account_id), folded, _FIELDS[scope])


def _between(leaf: f.Filter) -> ColumnElement[bool]:
    """Return the conditions of the given bounds."""
    conditions: list[ColumnElement[bool]] = []
    match leaf:
        case f.ReceivedBetween(since, before):
            conditions += [] if since is None else [MESSAGE.c.received_at_ms >= since]
            conditions += [] if before is None else [MESSAGE.c.received_at_ms < before]
        case f.SizeBetween(larger_than, smaller_than):
            conditions += [] if larger_than is None else [MESSAGE.c.size_bytes > larger_than]
            conditions += [] if smaller_than is None else [MESSAGE.c.size_bytes < smaller_than]
        case _:
            raise TypeError(f"{leaf!r} must be answered before the search")
    return and_(true(), *conditions)


def _has_flag(flag: str) -> ColumnElement[bool]:
    """Flags are in one column, separated by spaces. LIKE's own characters are escaped; case is ignored."""
    padded = literal(" ") + MESSAGE.c.flags + literal(" ")
    return padded.icontains(f" {flag} ", autoescape=True)


def search_range(account_id: str) -> tuple[int, int]:
    """Return the first and last number that an account's rows in `search_text` may have; accounts may share them."""
    first = (zlib.crc32(account_id.encode()) >> 1) << 32
    return first, first + (1 << 32) - 1


def _is_placed_in(mailbox_id: str) -> ColumnElement[bool]:
    return exists().where(
        PLACEMENT.c.account_id == MESSAGE.c.account_id,
        PLACEMENT.c.message_id == MESSAGE.c.id,
        PLACEMENT.c.mailbox_id == mailbox_id,
    )
