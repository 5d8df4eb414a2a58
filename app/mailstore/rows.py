"""Conversions between values and columns: the prepared JSON of a message, and the coding of flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import orjson

from app.mail.delta import Arrived
from app.mail.searchable import TextState, fold
from app.mail.storable import json_bytes, storable_time
from app.mail.summaries import addresses_of, addresses_to_json, iso
from app.mail.types import (
    AccountId,
    Address,
    BodyPart,
    Detail,
    Flags,
    MailboxId,
    Message,
    MessageId,
    ThreadId,
    keywords_of,
)
from app.mailstore.structures import structure_from_json, structure_to_json
from app.mime.body import has_attachments

FOLDED_LIMIT = 2_000
"""The most characters of a header field that search examines."""


def flags_to_text(flags: Flags) -> str:
    return " ".join(sorted(flags))


def flags_of(text: str) -> Flags:
    return frozenset(text.split(" ")) if text else frozenset()


def _folded(addresses: tuple[Address, ...], groups: tuple[str, ...] = ()) -> str:
    """Return the folded text that a search by address examines."""
    names = [f"{item.name} <{item.address}>" for item in addresses]
    return fold(", ".join([*names, *groups]))[:FOLDED_LIMIT]


def summary_of(
    account_id: AccountId, message_id: MessageId, thread_id: ThreadId, mailbox_id: MailboxId, arrival: Arrived
) -> dict[str, Any]:
    """Return the object of `view=summary`, its fields in the order of the API."""
    overview = arrival.overview
    return {
        "id": message_id,
        "account_id": account_id,
        "mailbox_ids": [mailbox_id],
        "thread_id": thread_id,
        "subject": overview.subject,
        "from": addresses_to_json(overview.from_),
        "to": addresses_to_json(overview.to),
        "cc": addresses_to_json(overview.cc),
        "reply_to": addresses_to_json(overview.reply_to),
        "date": None if overview.date_ms is None else iso(overview.date_ms),
        "received_at": iso(arrival.received_at_ms),
        "preview": arrival.preview,
        "keywords": keywords_of(arrival.flags),
        "size_bytes": arrival.size_bytes,
        "has_attachments": arrival.structure is not None and has_attachments(arrival.structure),
        "message_id_header": overview.message_id_header,
        "in_reply_to": overview.in_reply_to,
        "references": overview.references,
        **({} if arrival.is_on_server is None else {"on_server": arrival.is_on_server}),
    }


def message_values(
    account_id: AccountId, message_id: MessageId, thread_id: ThreadId, arrival: Arrived
) -> dict[str, Any]:
    """Return the row of table `message` for an arrival, without `version` and the origin's numbers."""
    overview = arrival.overview
    summary = summary_of(account_id, message_id, thread_id, arrival.mailbox_id, arrival)
    return {
        "account_id": account_id,
        "id": message_id,
        "mailbox_id": arrival.mailbox_id,
        "uid": arrival.uid,
        "modseq": arrival.modseq,
        "moved_seq": 0,
        "flags_seq": 0,
        "other_seq": 0,
        "flags": flags_to_text(arrival.flags),
        "received_at_ms": storable_time(arrival.received_at_ms),
        "size_bytes": arrival.size_bytes,
        "thread_id": thread_id,
        "has_attachments": summary["has_attachments"],
        "date_ms": overview.date_ms,
        "message_id_header": overview.message_id_header,
        "origin_id": arrival.origin_id,
        "blob": arrival.blob,
        "preview": arrival.preview,
        "text_state": TextState.AWAITED if arrival.unread is None else TextState.UNREAD,
        "subject_folded": fold(" ".join(overview.subject.split()))[:FOLDED_LIMIT],
        "from_folded": _folded(overview.from_),
        "to_folded": _folded(overview.to, overview.to_groups),
        "cc_folded": _folded(overview.cc, overview.cc_groups),
        "bcc_folded": _folded(overview.bcc, overview.bcc_groups),
        "summary": json_bytes(summary),
        "further": 0,
        "saved_at_ms": None,
    }


def detail_values(account_id: AccountId, message_id: MessageId, arrival: Arrived) -> dict[str, Any]:
    """Return the row of table `detail` for an arrival."""
    has_extra = arrival.overview.bcc or arrival.problems
    extra = (
        json_bytes({"bcc": addresses_to_json(arrival.overview.bcc), "problems": arrival.problems})
        if has_extra
        else None
    )
    return {
        "account_id": account_id,
        "id": message_id,
        "structure": structure_bytes(arrival.structure),
        "extra": extra,
        "header": arrival.rendered.header if arrival.rendered else None,
        "imap_envelope": arrival.rendered.envelope if arrival.rendered else None,
        "imap_body_structure": arrival.rendered.body_structure if arrival.rendered else None,
        "digest": None,
    }


_LIKENESS = (
    "received_at", "size_bytes", "subject", "from", "to", "cc", "reply_to", "date", "message_id_header", "in_reply_to",
    "references", "has_attachments",
)  # fmt: skip


def likeness(summary: bytes) -> bytes:
    """Return the fields of a summary that are equal in every mailbox: INTERNALDATE, size, header."""
    fields = orjson.loads(summary)
    return json_bytes([fields[name] for name in _LIKENESS])


def likeness_of(arrival: Arrived) -> bytes:
    """The same of an arrival."""
    fields = summary_of(AccountId(""), MessageId(""), ThreadId(""), arrival.mailbox_id, arrival)
    return likeness(json_bytes(fields))


def structure_bytes(structure: BodyPart | None) -> bytes | None:
    """Return a structure as a row holds it."""
    return None if structure is None else json_bytes(structure_to_json(structure))


def detail_of(structure: bytes | None, extra: bytes | None, header: bytes | None) -> Detail:
    """Read the columns of table `detail`."""
    facts = orjson.loads(extra) if extra else {"bcc": [], "problems": []}
    return Detail(
        None if structure is None else structure_from_json(orjson.loads(structure)),
        addresses_of(facts["bcc"]),
        tuple(facts["problems"]),
        header,
    )


# ---- rows to values; the order is that of the column lists in `reading`


_FLAGS_INDEX = [field.name for field in fields(Message)].index("flags")


def message_of(row: Sequence[Any]) -> Message:
    """`row`: the columns named as the fields of Message (`reading.columns.MESSAGE_COLUMNS`)."""
    values = list(row)
    values[_FLAGS_INDEX] = flags_of(values[_FLAGS_INDEX])
    return Message(*values)
