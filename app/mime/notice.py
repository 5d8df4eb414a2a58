"""Writing of delivery status notifications (RFC 3464), which report failed and delayed messages to their senders."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import StrEnum

from app.mail.types import Address
from app.mime import writer
from app.mime.fields import first_value, split_fields

MAX_RETURNED_HEADER_BYTES = 64 * 1024
_RESPONSE_CHARS = 500
_MESSAGE_ID = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{1,900}>")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_NO_XTEXT = re.compile(r"[^\x21-\x7e]|[\\+=]")
"""Characters that an address of type utf-8 must escape (RFC 6533 §3)."""


class Action(StrEnum):
    """The result of delivery to a recipient (RFC 3464 §2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    """The result for one recipient. `status` is an enhanced code. `is_uncertain`: the message may have arrived."""

    address: str
    action: Action
    status: str
    response: str | None = None
    is_uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Notice:
    """The content of a notification. `header` is the header block of the original; times are ms since 1970 UTC.

    `retried_until_ms` is for Action.DELAYED.
    """

    hostname: str
    recipient: str
    envelope_id: str
    message_id: str
    date_ms: int
    arrived_ms: int
    outcomes: tuple[RecipientOutcome, ...]
    header: bytes
    retried_until_ms: int | None = None


def write_notice(notice: Notice) -> bytes:
    """The whole message, with CRLF line ends, to send from the null sender. ASCII apart from the returned header."""
    parts = [_explanation(notice), _reported(notice), _returned(notice.header)]
    body = writer.multipart("report; report-type=delivery-status", parts)
    fields = "".join(f"{line}\r\n" for line in _fields(notice)).encode()
    return fields + b"".join(writer.write_part(body, hashlib.sha256(notice.message_id.encode()).hexdigest()[:32]))


def _fields(notice: Notice) -> list[str]:
    subject = {
        Action.FAILED: "Undelivered mail",
        Action.DELAYED: "Delayed mail (delivery will be retried)",
    }[notice.outcomes[0].action]
    if all(outcome.is_uncertain for outcome in notice.outcomes):
        subject = "Mail that may not have arrived"
    original = first_value(split_fields(notice.header), "message-id") or ""
    ids = [original] if _MESSAGE_ID.fullmatch(original) else []
    return [
        f"Date: {_date(notice.date_ms)}",
        writer.addresses("From", [Address("Mail Delivery System", f"MAILER-DAEMON@{notice.hostname}")]),
        writer.addresses("To", [Address("", notice.recipient)]),
        writer.unstructured("Subject", subject),
        f"Message-ID: {notice.message_id}",
        *([writer.message_ids("In-Reply-To", ids), writer.message_ids("References", ids)] if ids else []),
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
    ]


def _date(ms: int) -> str:
    return format_datetime(datetime.fromtimestamp(ms // 1000, UTC))


# ---- for people


def _explanation(notice: Notice) -> writer.Part:
    paragraphs = [f"This is the mail system at {notice.hostname}."]
    failed = [outcome for outcome in notice.outcomes if outcome.action is Action.FAILED and not outcome.is_uncertain]
    uncertain = [outcome for outcome in notice.outcomes if outcome.is_uncertain]
    delayed = [outcome for outcome in notice.outcomes if outcome.action is Action.DELAYED]
    if failed:
        paragraphs += ["Your message could not be delivered to:", _listed(failed)]
    if uncertain:
        paragraphs += ["Your message may or may not have been delivered to:", _listed(uncertain)]
        paragraphs.append("Ask the recipients before you send it again.")
    if delayed:
        until = f" until {_date(notice.retried_until_ms)}" if notice.retried_until_ms is not None else ""
        paragraphs += ["Your message could not be delivered yet to:", _listed(delayed)]
        paragraphs.append(f"Delivery will be retried{until}. You do not need to send the message again.")
    return writer.text_part("plain", "\n\n".join(paragraphs) + "\n")


def _listed(outcomes: Sequence[RecipientOutcome]) -> str:
    return "\n".join(
        f"  {outcome.address}\n    {_clean(outcome.response) or 'no reason given'}" for outcome in outcomes
    )


def _clean(response: str | None) -> str:
    return _UNPRINTABLE.sub(" ", (response or "")[:_RESPONSE_CHARS]).strip()


# ---- for programs


def _reported(notice: Notice) -> writer.Part:
    message_fields = [
        f"Original-Envelope-Id: {notice.envelope_id}",
        f"Reporting-MTA: dns; {notice.hostname}",
        f"Arrival-Date: {_date(notice.arrived_ms)}",
    ]
    blocks = [message_fields, *(_block(outcome, notice.retried_until_ms) for outcome in notice.outcomes)]
    text = "\r\n\r\n".join("\r\n".join(lines) for lines in blocks) + "\r\n"
    return writer.Part(("Content-Type: message/delivery-status",), "7bit", text.encode("ascii"))


def _block(outcome: RecipientOutcome, retried_until_ms: int | None) -> list[str]:
    lines = [
        f"Final-Recipient: {_typed(outcome.address)}",
        f"Action: {outcome.action}",
        f"Status: {outcome.status}",
    ]
    if response := _clean(outcome.response):
        lines.append(f"Diagnostic-Code: smtp; {response}")
    if outcome.action is Action.DELAYED and retried_until_ms is not None:
        lines.append(f"Will-Retry-Until: {_date(retried_until_ms)}")
    return lines


def _typed(address: str) -> str:
    """An address with its type. Non-ASCII characters are escaped, so that the report stays ASCII (RFC 6533 §3)."""
    if address.isascii():
        return f"rfc822; {_UNPRINTABLE.sub('', address)}"
    escaped = _NO_XTEXT.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", address)
    return f"utf-8; {escaped}"


def _returned(header: bytes) -> writer.Part:
    """The original's header (RFC 6522 §4), cut after a line if it is too long."""
    if len(header) > MAX_RETURNED_HEADER_BYTES:
        header = header[: header.rfind(b"\r\n", 0, MAX_RETURNED_HEADER_BYTES) + 2]
    if not header.endswith(b"\r\n"):
        header += b"\r\n"
    charset = "us-ascii" if header.isascii() else "utf-8"
    encoding = "7bit" if header.isascii() else "8bit"
    return writer.Part((f"Content-Type: text/rfc822-headers; charset={charset}",), encoding, header)
