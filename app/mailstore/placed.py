"""Statements for messages by mailbox: by the place in their own row, or by a further one in table `placement`.

For accounts without placements, the second half of each is an index look-up that finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Column, ColumnElement, CompoundSelect, bindparam, select, union_all

from app.db.session import Statement, is_one_of
from app.db.tables import ACCOUNT, MESSAGE, PLACEMENT

_ACCOUNT_ID: BindParameter[str] = bindparam("account_id")
_MAILBOX_ID: BindParameter[str] = bindparam("mailbox_id")
_OF_ACCOUNT = MESSAGE.c.account_id == _ACCOUNT_ID
_FIRST_HERE = (_OF_ACCOUNT, MESSAGE.c.mailbox_id == _MAILBOX_ID)
FURTHER_HERE = (PLACEMENT.c.account_id == _ACCOUNT_ID, PLACEMENT.c.mailbox_id == _MAILBOX_ID)
"""The further placements in the mailbox `mailbox_id`."""
ITS_MESSAGE = (MESSAGE.c.account_id == PLACEMENT.c.account_id) & (MESSAGE.c.id == PLACEMENT.c.message_id)
"""Joins a further placement to its message."""
_AT_PLACE = {"mailbox_id": PLACEMENT.c.mailbox_id, "uid": PLACEMENT.c.uid, "modseq": PLACEMENT.c.modseq}

HAS_PLACEMENTS: Statement = select(ACCOUNT.c.has_placements).where(ACCOUNT.c.id == _ACCOUNT_ID)
PLACES: Statement = union_all(
    select(MESSAGE.c.mailbox_id, MESSAGE.c.uid, MESSAGE.c.modseq).where(_OF_ACCOUNT, MESSAGE.c.id == bindparam("id")),
    select(PLACEMENT.c.mailbox_id, PLACEMENT.c.uid, PLACEMENT.c.modseq).where(
        PLACEMENT.c.account_id == _ACCOUNT_ID, PLACEMENT.c.message_id == bindparam("id")
    ),
)
"""Every place of a message, its first place first."""
KNOWN_ORIGINS: Statement = select(MESSAGE.c.origin_id).where(
    _OF_ACCOUNT, MESSAGE.c.origin_id.is_not(None), is_one_of(MESSAGE.c.origin_id, bindparam("origin_ids"))
)


def here(*columns: Column[Any], **where: str) -> CompoundSelect[Any]:
    """Select the messages of a mailbox; `mailbox_id`, `uid` and `modseq` are those of the place.

    `where` maps columns to the names of lists that must contain them.
    """
    first = [is_one_of(MESSAGE.c[name], bindparam(values)) for name, values in where.items()]
    further = [is_one_of(PLACEMENT.c[name], bindparam(values)) for name, values in where.items()]
    return of_both(columns, first, further)


def of_both(
    columns: Sequence[Column[Any]], first: Sequence[ColumnElement[bool]], further: Sequence[ColumnElement[bool]]
) -> CompoundSelect[Any]:
    """Select the messages of a mailbox, with one condition for each kind of place."""
    return union_all(
        select(*columns).where(*_FIRST_HERE, *first),
        select(*(_AT_PLACE.get(str(column.name), column) for column in columns))
        .join_from(PLACEMENT, MESSAGE, ITS_MESSAGE)
        .where(*FURTHER_HERE, *further),
    )


def newest_further(columns: Sequence[Column[Any]]) -> Statement:
    """Select the newest messages with a further placement in a mailbox, in the order of lists."""
    return (
        select(*columns)
        .join_from(PLACEMENT, MESSAGE, ITS_MESSAGE)
        .where(*FURTHER_HERE)
        .order_by(PLACEMENT.c.received_at_ms.desc(), MESSAGE.c.uid.desc(), MESSAGE.c.id.desc())
        .limit(bindparam("limit"))
    )
