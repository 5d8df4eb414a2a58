"""The header as IMAP's ENVELOPE (Envelope) and decoded for people (Overview)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.mail.storable import storable
from app.mail.types import Envelope, EnvelopeAddress, Overview
from app.mime.addresses import MAX_ADDRESSES, group_names, parse_addresses, readable
from app.mime.dates import parse_date
from app.mime.fields import Fields, named_fields, split_fields, unfold
from app.mime.words import BIDI_CONTROLS, as_utf8, charset_of, clean, decode_words

MAX_MESSAGE_IDS = 200
MAX_UNCLEAN_ID_CHARS = 998
MAX_SUBJECT_CHARS = 100_000
"""Characters of a subject in an Overview. The Envelope has the whole subject."""

_AUTHOR_FIELDS = frozenset({"from", "sender", "reply-to"})
_ADDRESS_FIELDS = _AUTHOR_FIELDS | {"to", "cc", "bcc"}
_TEXT_FIELDS = frozenset({"date", "subject", "in-reply-to", "message-id"})
_SPACES = re.compile(r"\s{2,}")
_MESSAGE_ID = re.compile(r"<[^<>\s]++>")


def envelope_of(fields: Fields) -> Envelope:
    """The ENVELOPE of a header (RFC 9051 §7.5.2). Sender and Reply-To default to From.

    Of repeated fields the first counts, so that all programs see the same author; recipients add up.
    """
    texts: dict[str, str] = {}
    addresses: dict[str, list[EnvelopeAddress]] = {}
    for name, value in fields:
        if name in _TEXT_FIELDS:
            texts.setdefault(name, unfold(value))
        elif name in _ADDRESS_FIELDS and not (name in _AUTHOR_FIELDS and addresses.get(name)):
            parsed = addresses.setdefault(name, [])
            parsed += parse_addresses(_unescaped(unfold(value)), MAX_ADDRESSES - len(parsed))
    lists = {name: tuple(parsed) for name, parsed in addresses.items()}
    author = lists.get("from", ())
    subject = texts.get("subject")
    return Envelope(
        date=texts.get("date"),
        subject=_SPACES.sub(" ", subject) if subject is not None else None,
        from_=author,
        sender=lists.get("sender") or author,
        reply_to=lists.get("reply-to") or author,
        to=lists.get("to", ()),
        cc=lists.get("cc", ()),
        bcc=lists.get("bcc", ()),
        in_reply_to=texts.get("in-reply-to"),
        message_id=texts.get("message-id"),
    )


def _unescaped(text: str) -> str:
    """Decode raw ISO-2022-JP before addresses are parsed: its bytes look like quotes, brackets and commas."""
    return as_utf8(text) if "\x1b" in text else text


def overview_of(envelope: Envelope, references: str | None) -> Overview:
    """The fields that lists show, from an ENVELOPE and the unfolded References header (None if absent or unknown)."""
    author = readable(envelope.from_)
    subject = (envelope.subject or "")[:MAX_SUBJECT_CHARS]
    return Overview(
        subject=decode_words(subject, charset_of(subject)),
        from_=author,
        sender=author if envelope.sender is envelope.from_ else readable(envelope.sender),
        reply_to=author if envelope.reply_to is envelope.from_ else readable(envelope.reply_to),
        to=readable(envelope.to),
        cc=readable(envelope.cc),
        bcc=readable(envelope.bcc),
        to_groups=group_names(envelope.to),
        cc_groups=group_names(envelope.cc),
        bcc_groups=group_names(envelope.bcc),
        date_ms=parse_date(envelope.date) if envelope.date else None,
        message_id_header=_own_message_id(envelope.message_id),
        in_reply_to=message_ids(envelope.in_reply_to),
        references=message_ids(references),
    )


def message_ids(text: str | None) -> tuple[str, ...]:
    """The ids of In-Reply-To or References with their brackets, without duplicates, in order.

    At most MAX_MESSAGE_IDS: the thread's root and the nearest ancestors.
    """
    if not text:
        return ()
    ids = list(dict.fromkeys(_MESSAGE_ID.findall(storable(as_utf8(text)))))
    if len(ids) > MAX_MESSAGE_IDS:
        ids = ids[:1] + ids[1 - MAX_MESSAGE_IDS :]
    return tuple(ids)


def message_id_in(block: bytes) -> str | None:
    """The Message-ID of a header block, in the form of an Overview, or None."""
    return overview_of(envelope_of(split_fields(block)), None).message_id_header


def readable_fields(block: bytes) -> list[tuple[str, str]]:
    """All fields of a header block in order: names in the original case, values decoded for people."""
    return [(name, decode_words(unfold(value))) for name, value in named_fields(block)]


def readable_values(block: bytes, names: Sequence[str]) -> dict[str, list[str]]:
    """The values of fields with these names, decoded for people."""
    fields = split_fields(block)
    return {name: [decode_words(unfold(value)) for key, value in fields if key == name.lower()] for name in names}


def overview_problems(overview: Overview) -> tuple[str, ...]:
    """Describe problems of a header, for people: nothing in it is readable, or the sender's name may mislead."""
    if not (overview.from_ or overview.to or overview.date_ms or overview.subject or overview.message_id_header):
        return ("the message has no readable sender, recipient, date, subject or Message-ID",)
    if any(BIDI_CONTROLS.search(address.name + address.address) for address in (*overview.from_, *overview.sender)):
        return ("the sender's name contains characters that change the direction of text",)
    return ()


def _own_message_id(text: str | None) -> str | None:
    if not text:
        return None
    text = storable(as_utf8(text))
    match = _MESSAGE_ID.search(text)
    return match[0] if match else clean(text[:MAX_UNCLEAN_ID_CHARS]) or None
