"""Composes messages from requests: recipients, quotes, references and attachments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from app.errors import InvalidRequest, MessageNotFound, NotPermitted, NotSupported, TooComplex
from app.mail.identifiers import new_id, now_ms
from app.mail.metadata import Metadata
from app.mail.summaries import overview_in
from app.mail.types import AccountId, Address, MailboxId, Message, Overview, Role
from app.mailstore.reader import MailReader
from app.mime.compose import Draft, Enclosure, compose, recipients_of
from app.mime.reply import (
    forward_subject,
    forwarded_html,
    forwarded_text,
    quoted_html,
    quoted_text,
    reply_recipients,
    reply_references,
    reply_subject,
)
from app.mime.text import text_of_html
from app.parsing.jobs import IN_THREADS, SMALL_BYTES, Parsers
from app.services.access.callers import Caller, Scope
from app.services.access.visibility import seen_among
from app.services.reading.naming import MailboxNames
from app.services.sending.base64_slices import decoded, size_of
from app.services.sending.submissions import NewSubmission, Options

ATTACHMENTS_LIMIT_BYTES = 35 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class NewAttachment:
    """One attachment of a request: its content in base64, or a part of an existing message."""

    filename: str | None = None
    content_type: str | None = None
    content_base64: str | memoryview | None = None
    r"""A memoryview for a long text: ASCII as written in JSON, where `/` may be `\/`."""
    content_id: str | None = None
    message_id: str | None = None
    attachment_id: str | None = None
    upload_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to compose. `from_` None is the account itself; `save_to` None its Sent mailbox."""

    mode: str = "new"
    from_: Address | None = None
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    subject: str | None = None
    text: str | None = None
    html: str | None = None
    attachments: tuple[NewAttachment, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    reply_to_message_id: str | None = None
    is_quoted: bool = True
    message_id_header: str | None = None
    date_ms: int | None = None
    save_to: str | None = None
    is_saved: bool = True
    is_retried_when_uncertain: bool = False
    send_at_ms: int | None = None
    undo_seconds: int = 0
    metadata: Metadata = field(default_factory=dict)
    seed: str | None = None
    """Determines the Message-ID if none is given; the same seed gives the same one."""


@dataclass(frozen=True, slots=True)
class ReadableText:
    """The text and the sanitised HTML of a message, for a quotation; None if it has none."""

    text: str | None
    html: str | None


class ContentReader(Protocol):
    """Reads the messages and attachments that are quoted or attached."""

    async def readable(self, message: Message) -> ReadableText: ...

    async def enclosure(self, account_id: AccountId, message_id: str, attachment_id: str) -> Enclosure:
        """Return a decoded attachment. Raises MessageNotFound, PartNotFound."""
        ...

    async def enclosures(self, message: Message) -> Sequence[Enclosure]:
        """Return all attachments of a message, for forwarding."""
        ...


@dataclass(slots=True)
class _Original:
    """The message to reply to or to forward."""

    message: Message
    overview: Overview
    readable: ReadableText = field(default_factory=lambda: ReadableText(None, None))


class Composer:
    """Composes messages for callers of one account."""

    def __init__(self, reader: MailReader, contents: ContentReader, parsers: Parsers = IN_THREADS) -> None:
        self._reader = reader
        self._contents = contents
        self._parsers = parsers
        self._names = MailboxNames(reader)

    async def submission(self, account_id: AccountId, own: Address, caller: Caller, new: NewMessage) -> NewSubmission:
        """Return a message ready to be submitted. `own` is the account's address.

        Raises InvalidRequest with a pointer, NotPermitted for a sender that the caller may not use, MessageNotFound …
        """
        original = await self._original(account_id, caller, new)
        draft = await self._draft(account_id, own, caller, new, original)
        draft = await self._with_text(account_id, draft)
        recipients = recipients_of(draft)
        if not recipients:
            raise InvalidRequest.at("/to", "At least one recipient is required")
        options = Options(
            save_to=await self._save_to(account_id, caller, new),
            is_retried_when_uncertain=new.is_retried_when_uncertain,
            answered=original.message.id if original and new.mode != "forward" else None,
            forwarded=original.message.id if original and new.mode == "forward" else None,
            made_by=caller.token_id,
            metadata=new.metadata,
            needs_smtputf8=not all(item.isascii() for item in [draft.from_.address, *recipients]),
        )
        return NewSubmission(
            draft.from_.address,
            tuple(recipients),
            draft.message_id,
            await self._composed(draft),
            options,
            new.send_at_ms,
            new.undo_seconds,
        )

    async def check_rights(self, account_id: AccountId, own: Address, caller: Caller, new: NewMessage) -> None:
        """Check that the caller may compose this message. Raises NotPermitted, MailboxNotFound, MessageNotFound.

        A referenced message that was deleted is not an error here.
        """
        _check_sender(new.from_ or own, own, caller)
        if new.save_to is not None:
            await self._names.id_of(account_id, caller, new.save_to)
        if caller.mailbox_ids is not None:
            ids = [new.reply_to_message_id, *(attachment.message_id for attachment in new.attachments)]
            messages = await self._reader.messages.find(account_id, [id_ for id_ in ids if id_ is not None])
            if len(await seen_among(self._reader, messages, caller.mailbox_ids)) < len(messages):
                raise MessageNotFound

    async def content(self, account_id: AccountId, own: Address, caller: Caller, new: NewMessage) -> bytes:
        """Return only the bytes, for a message that is stored and not sent; recipients may be missing."""
        original = await self._original(account_id, caller, new)
        draft = await self._draft(account_id, own, caller, new, original)
        return await self._composed(await self._with_text(account_id, draft), shows_bcc=True)

    async def _with_text(self, account_id: AccountId, draft: Draft) -> Draft:
        """Add the text of the draft's HTML if it has no text. Raises InvalidRequest for HTML that is too complex."""
        if draft.html is None or draft.text is not None:
            return draft
        try:
            text = await self._parsers.run(account_id, len(draft.html), text_of_html, draft.html)
        except TooComplex:
            raise InvalidRequest.at("/html", "Too complex to convert to text: send `text` too") from None
        return replace(draft, text=text)

    async def _composed(self, draft: Draft, *, shows_bcc: bool = False) -> bytes:
        """Return the bytes of a draft; a large one is composed in a thread."""
        size_bytes = sum(size_of(enclosure.content) for enclosure in draft.enclosures)
        size_bytes += len(draft.text or "") + len(draft.html or "")
        if size_bytes <= SMALL_BYTES:
            return compose(draft, shows_bcc=shows_bcc)
        return await asyncio.to_thread(compose, draft, shows_bcc=shows_bcc)

    async def _original(self, account_id: AccountId, caller: Caller, new: NewMessage) -> _Original | None:
        if new.mode == "new":
            if new.reply_to_message_id is not None:
                raise InvalidRequest.at("/reply_to_message_id", "Allowed only with mode reply, reply_all or forward")
            return None
        if new.reply_to_message_id is None:
            raise InvalidRequest.at("/reply_to_message_id", f"Required with mode {new.mode}")
        message = await self._message(account_id, caller, new.reply_to_message_id)
        original = _Original(message, overview_in(message.summary))
        if new.is_quoted:
            original.readable = await self._contents.readable(message)
        return original

    async def _message(self, account_id: AccountId, caller: Caller, message_id: str) -> Message:
        """Return a message that the caller may see and read. Raises MessageNotFound, NotPermitted."""
        caller.require(Scope.MAIL_READ)
        messages = await self._reader.messages.find(account_id, [message_id])
        visible = await seen_among(self._reader, messages, caller.mailbox_ids)
        if not visible:
            raise MessageNotFound
        return visible[0]

    async def _draft(
        self, account_id: AccountId, own: Address, caller: Caller, new: NewMessage, original: _Original | None
    ) -> Draft:
        from_ = new.from_ or own
        _check_sender(from_, own, caller)
        draft = Draft(
            from_=from_,
            message_id=new.message_id_header or _new_message_id(own.address, new.seed),
            date_ms=new.date_ms if new.date_ms is not None else now_ms(),
            to=new.to,
            cc=new.cc,
            bcc=new.bcc,
            reply_to=new.reply_to,
            subject=new.subject or "",
            text=new.text,
            html=new.html,
            enclosures=await self._enclosures(account_id, caller, new),
            headers=new.headers,
            allow_utf8=True,
        )
        if original is None:
            return draft
        if new.mode == "forward":
            return replace(
                _forward(draft, new, original),
                enclosures=(*draft.enclosures, *await self._contents.enclosures(original.message)),
            )
        return _reply(draft, new, original, own)

    async def _enclosures(self, account_id: AccountId, caller: Caller, new: NewMessage) -> tuple[Enclosure, ...]:
        enclosures, total = [], 0
        for number, attachment in enumerate(new.attachments):
            enclosure = await self._enclosure(account_id, caller, attachment, f"/attachments/{number}")
            total += size_of(enclosure.content)
            if total > ATTACHMENTS_LIMIT_BYTES:
                raise InvalidRequest.at("/attachments", f"Together they have more than {ATTACHMENTS_LIMIT_BYTES} bytes")
            enclosures.append(enclosure)
        return tuple(enclosures)

    async def _enclosure(
        self, account_id: AccountId, caller: Caller, new_attachment: NewAttachment, pointer: str
    ) -> Enclosure:
        if new_attachment.upload_id is not None:
            raise NotSupported("Uploads are not supported yet")
        if new_attachment.message_id is not None and new_attachment.attachment_id is not None:
            await self._message(account_id, caller, new_attachment.message_id)
            enclosure = await self._contents.enclosure(
                account_id, new_attachment.message_id, new_attachment.attachment_id
            )
            return replace(
                enclosure,
                filename=new_attachment.filename or enclosure.filename,
                content_type=new_attachment.content_type or enclosure.content_type,
                content_id=new_attachment.content_id,
            )
        if new_attachment.content_base64 is None:
            raise InvalidRequest.at(pointer, "Give either content_base64, or message_id and attachment_id")
        try:
            content = await decoded(new_attachment.content_base64)
        except ValueError:  # also for text that is not ASCII
            raise InvalidRequest.at(f"{pointer}/content_base64", "Invalid base64") from None
        return Enclosure(
            new_attachment.filename,
            new_attachment.content_type or "application/octet-stream",
            content,
            new_attachment.content_id,
        )

    async def _save_to(self, account_id: AccountId, caller: Caller, new: NewMessage) -> MailboxId | None:
        if not new.is_saved:
            return None
        if new.save_to is not None:
            mailbox_id = await self._names.id_of(account_id, caller, new.save_to)
            return (await self._reader.mailboxes.mailbox(account_id, mailbox_id)).id
        mailboxes = await self._reader.mailboxes.mailboxes(account_id)
        return next((item.id for item in mailboxes if item.role is Role.SENT), None)


def _check_sender(from_: Address, own: Address, caller: Caller) -> None:
    if from_.address.lower() != own.address.lower() or not caller.may_send_as(from_.address):
        raise NotPermitted("The token may not send from this address")


def _new_message_id(address: str, seed: str | None) -> str:
    """Return a Message-ID on the sender's own domain."""
    domain = address.rpartition("@")[2]
    if not domain.isascii():
        domain = domain.encode("idna").decode()
    return f"<{seed or new_id('m')[2:]}@{domain}>"


def _reply(draft: Draft, new: NewMessage, original: _Original, own: Address) -> Draft:
    to, cc = reply_recipients(original.overview, {own.address.lower()}, to_all=new.mode == "reply_all")
    in_reply_to, references = reply_references(original.overview)
    text, html = draft.text, draft.html
    if html is not None and original.readable.html is not None:
        html += quoted_html(original.overview, original.readable.html)
    if original.readable.text is not None and (text is not None or html is None):
        text = f"{text or ''}\n\n{quoted_text(original.overview, original.readable.text)}\n"
    return replace(
        draft,
        to=new.to or to,
        cc=new.cc or cc,
        subject=new.subject if new.subject is not None else reply_subject(original.overview.subject),
        text=text,
        html=html,
        in_reply_to=in_reply_to,
        references=references,
    )


def _forward(draft: Draft, new: NewMessage, original: _Original) -> Draft:
    text, html = draft.text, draft.html
    if html is not None and original.readable.html is not None:
        html += forwarded_html(original.overview, original.readable.html)
    if original.readable.text is not None and (text is not None or html is None):
        text = f"{text or ''}\n\n{forwarded_text(original.overview, original.readable.text)}\n"
    _, references = reply_references(original.overview)
    return replace(
        draft,
        subject=new.subject if new.subject is not None else forward_subject(original.overview.subject),
        text=text,
        html=html,
        references=references,
    )
