"""Replies and forwards: their recipients, subject and references, and the quoted original."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from html import escape

from app.mail.types import Address, Overview
from app.mime.validate import is_address

MAX_REFERENCES = 50
MAX_QUOTED_CHARS = 1_000_000

_BARE_ID = re.compile(r"[!-;=?-~]+", re.ASCII)
_REPLY_PREFIX = re.compile(r"(?:re|aw|sv|vs|antw|odp|ref|rif|ynt|回复|答复)(?:\[\d{1,4}\])?\s{0,3}[:：]", re.IGNORECASE)
_FORWARD_PREFIX = re.compile(r"(?:fwd?|wg|tr|rv|enc|doorst|vl|i|转发)(?:\[\d{1,4}\])?\s{0,3}[:：]", re.IGNORECASE)


def reply_subject(subject: str) -> str:
    """The subject with `Re: ` before it, unless it begins with a reply prefix in any known language."""
    return subject if _REPLY_PREFIX.match(subject) else f"Re: {subject}".rstrip()


def forward_subject(subject: str) -> str:
    """The subject with `Fwd: ` before it, unless it begins with a forward prefix in any known language."""
    return subject if _FORWARD_PREFIX.match(subject) else f"Fwd: {subject}".rstrip()


def reply_recipients(
    original: Overview, own: Collection[str], *, to_all: bool
) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
    """(to, cc) of a reply (RFC 5322 §3.6.3). `own` are the account's addresses in lower case.

    A reply goes to the original's Reply-To or From; a reply to one's own message goes to the message's recipients.
    Duplicates and invalid addresses, such as an unquoted comma in a name produces, are left out; so are the account's
    own addresses, unless no other recipient remains.
    """
    author = _writable(original.reply_to) or _writable(original.from_)
    is_own = bool(author) and all(address.address.lower() in own for address in author)
    to = original.to if is_own and original.to else author
    recipients = _each_once(to, own) or _each_once(to, ())
    if not to_all:
        return recipients, ()
    taken = {address.address.lower() for address in recipients} | set(own)
    others = original.cc if is_own else (*original.to, *original.cc)
    return recipients, _each_once(others, taken)


def reply_references(original: Overview) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(In-Reply-To, References) of a reply (RFC 5322 §3.6.4), with the first and the last of many references."""
    own_id = _bracketed(original.message_id_header)
    if own_id is None:
        return (), ()
    earlier = original.references or (original.in_reply_to if len(original.in_reply_to) == 1 else ())
    chain = [message_id for message_id in earlier if message_id != own_id and _is_writable(message_id)]
    if len(chain) >= MAX_REFERENCES:
        chain = chain[:1] + chain[2 - MAX_REFERENCES :]
    return ((own_id,), (*chain, own_id)) if _is_writable(own_id) else ((), tuple(chain))


def _bracketed(message_id: str | None) -> str | None:
    """The id as References contains it; None if the header has no id, or has several words instead."""
    if message_id is None or message_id.startswith("<"):
        return message_id
    return f"<{message_id}>" if _BARE_ID.fullmatch(message_id) else None


def quoted_text(original: Overview, text: str) -> str:
    """The original's text as a quotation: an attribution line, then each line after `>`."""
    lines = text[:MAX_QUOTED_CHARS].rstrip().split("\n")
    quoted = (f">{line}" if line.startswith(">") else f"> {line}".rstrip() for line in lines)
    return "\n".join([_attribution(original), *quoted])


def quoted_html(original: Overview, html: str) -> str:
    """The original's HTML as a quotation. `html` must be sanitised."""
    return f'<div>{escape(_attribution(original))}</div><blockquote type="cite">{html}</blockquote>'


def forwarded_text(original: Overview, text: str) -> str:
    """The original's text after its main headers."""
    lines = [f"{name}: {value}" for name, value in _shown_fields(original)]
    return "\n".join(["---------- Forwarded message ----------", *lines, "", text[:MAX_QUOTED_CHARS]])


def forwarded_html(original: Overview, html: str) -> str:
    """The original's HTML after its main headers. `html` must be sanitised."""
    lines = [f"<b>{name}:</b> {escape(value)}" for name, value in _shown_fields(original)]
    return f"<div>---------- Forwarded message ----------<br>{'<br>'.join(lines)}</div><br>{html}"


def _each_once(addresses: Iterable[Address], without: Collection[str]) -> tuple[Address, ...]:
    unique = {address.address.lower(): address for address in reversed(_writable(addresses))}
    return tuple(reversed([address for key, address in unique.items() if key not in without]))


def _writable(addresses: Iterable[Address]) -> list[Address]:
    return [address for address in addresses if is_address(address.address)]


def _is_writable(message_id: str) -> bool:
    return message_id.isascii() and message_id.isprintable() and len(message_id) <= 900


def _attribution(original: Overview) -> str:
    author = ", ".join(_shown_address(address) for address in original.from_[:3]) or "someone"
    return f"On {_shown_date(original)}, {author} wrote:" if original.date_ms is not None else f"{author} wrote:"


def _shown_fields(original: Overview) -> list[tuple[str, str]]:
    fields = [
        ("From", _shown_addresses(original.from_)),
        ("Date", _shown_date(original)),
        ("Subject", original.subject),
        ("To", _shown_addresses(original.to)),
        ("Cc", _shown_addresses(original.cc)),
    ]
    return [(name, value) for name, value in fields if value]


def _shown_addresses(addresses: tuple[Address, ...]) -> str:
    return ", ".join(_shown_address(address) for address in addresses[:100])


def _shown_address(address: Address) -> str:
    return f"{address.name} <{address.address}>" if address.name else address.address


def _shown_date(original: Overview) -> str:
    if original.date_ms is None:
        return ""
    return datetime.fromtimestamp(original.date_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
