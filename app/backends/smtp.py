"""Submission over SMTP (RFC 6409): sends a message and returns a result per recipient.

A connection lost before the final dot means that nothing was sent: Unreachable. After the dot, a missing reply means
that the server may or may not have accepted the message: UNCERTAIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import aiosmtplib
from aiosmtplib import SMTPResponse

from app.backends.smtp_connection import cut, explained, open_client, our_errors
from app.errors import InvalidRequest, MailServerError, ServerProtocolError, Unreachable
from app.mail.backend import OutgoingMail, RecipientResult, Verdict
from app.mail.protocol_log import Recorder
from app.mail.types import ServerLogin
from app.mime.validate import validate_address
from app.security.netguard import NetGuard
from app.wire.smtp import dot_stuffed

CONNECTIONS = 3
"""Connections of one account at a time."""
IDLE_SECONDS = 20.0
"""How long an idle connection stays open."""
PIECE_BYTES = 64 * 1024
PIECE_TIMEOUT_SECONDS = 180.0
REPLY_TIMEOUT_SECONDS = 600.0
"""Timeout of the reply to the final dot (RFC 5321 §4.5.3.2.6)."""

_START_CONTENT = 354
_XTEXT_UNSAFE = re.compile(r"[^!-*,-<>-~]")

BeforeContent = Callable[[], Awaitable[None]]


class SmtpSubmission:
    """Implements `Submission` for one server, with a small pool of idle connections."""

    def __init__(
        self,
        server: ServerLogin,
        guard: NetGuard,
        tls: ssl.SSLContext,
        client_name: str,
        new_recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        """`client_name` is sent in EHLO. Without a user name there is no login.

        `new_recorder` makes the recorder of a new connection's protocol lines.
        """
        self._server = server
        self._guard = guard
        self._tls = tls
        self._client_name = client_name
        self._new_recorder = new_recorder
        self._slots = asyncio.Semaphore(CONNECTIONS)
        self._idle: dict[aiosmtplib.SMTP, asyncio.TimerHandle] = {}

    @property
    def server(self) -> ServerLogin:
        return self._server

    @property
    def host(self) -> str:
        return f"{self._server.host.lower()}:{self._server.port}"

    async def send(self, mail: OutgoingMail, before_content: BeforeContent | None = None) -> list[RecipientResult]:
        content = dot_stuffed(mail.content)
        refused = _invalid_addresses(mail)
        recipients = [address for address in mail.recipients if address not in refused]
        if not recipients:
            return [refused[address] for address in mail.recipients]
        async with self._slots:
            client, envelope = await self._begin(mail, recipients)
            try:
                results = await envelope.complete(content, before_content)
            except BaseException:
                cut(client)
                raise
            await self._release(client, needs_reset=not envelope.is_delivered)
        results |= refused
        return [results[address] for address in mail.recipients]

    async def verify(self) -> None:
        self._keep(await self._opened())

    async def _opened(self) -> aiosmtplib.SMTP:
        recorder = self._new_recorder() if self._new_recorder is not None else None
        return await open_client(self._server, self._guard, self._tls, self._client_name, recorder)

    def close(self) -> None:
        """Close the idle connections."""
        for client, timer in self._idle.items():
            timer.cancel()
            cut(client)
        self._idle.clear()

    async def _begin(self, mail: OutgoingMail, recipients: Sequence[str]) -> tuple[aiosmtplib.SMTP, _Envelope]:
        """A connection on which sender and recipients were sent. A dead pooled connection is replaced by a new one."""
        while (client := self._take()) is not None:
            with contextlib.suppress(Unreachable):
                return client, await self._begin_on(client, mail, recipients)
        client = await self._opened()
        return client, await self._begin_on(client, mail, recipients)

    async def _begin_on(self, client: aiosmtplib.SMTP, mail: OutgoingMail, recipients: Sequence[str]) -> _Envelope:
        envelope = _Envelope(client, mail)
        try:
            await envelope.send_addresses(recipients)
        except BaseException:
            cut(client)
            raise
        return envelope

    # ---- idle connections

    def _take(self) -> aiosmtplib.SMTP | None:
        while self._idle:
            client, timer = self._idle.popitem()
            timer.cancel()
            if client.is_connected:
                return client
        return None

    async def _release(self, client: aiosmtplib.SMTP, *, needs_reset: bool) -> None:
        try:
            if needs_reset and client.is_connected:
                with our_errors():
                    await client.rset()
        except MailServerError:
            cut(client)
        self._keep(client)

    def _keep(self, client: aiosmtplib.SMTP) -> None:
        if client.is_connected:
            loop = asyncio.get_running_loop()
            self._idle[client] = loop.call_later(IDLE_SECONDS, self._expire, client)

    def _expire(self, client: aiosmtplib.SMTP) -> None:
        self._idle.pop(client, None)
        cut(client)


class _Envelope:
    """One mail transaction (RFC 5321 §3.3): collects the replies for each recipient, then for the message."""

    def __init__(self, client: aiosmtplib.SMTP, mail: OutgoingMail) -> None:
        self._client = client
        self._mail = mail
        self._accepted: list[str] = []
        self._results: dict[str, RecipientResult] = {}
        self.is_delivered = False

    # ---- sender and recipients

    async def send_addresses(self, recipients: Sequence[str]) -> None:
        """Send MAIL and RCPT. Raises Unreachable, ServerProtocolError; nothing was sent then."""
        if (problem := self._unsupported()) is not None:
            self._results = {
                recipient: RecipientResult(recipient, Verdict.REFUSED, *problem) for recipient in recipients
            }
            return
        with our_errors():
            reply = await self._client.execute_command(
                b"MAIL", b"FROM:<" + self._mail.sender.encode() + b">", *self._mail_parameters()
            )
            if not _is_positive(reply):
                self._results = {recipient: _result(recipient, reply) for recipient in recipients}
                return
            for address in recipients:
                await self._send_recipient(address)

    async def _send_recipient(self, address: str) -> None:
        parameters = []
        if self._mail.dsn_notify and self._client.supports_extension("dsn"):
            parameters.append(b"NOTIFY=" + ",".join(self._mail.dsn_notify).encode("ascii"))
        reply = await self._client.execute_command(b"RCPT", b"TO:<" + address.encode() + b">", *parameters)
        if _is_positive(reply):  # includes 252, which OCI returns for every recipient
            self._accepted.append(address)
        elif reply.code == 552:  # too many recipients, in older servers (RFC 5321 §4.5.3.1.10)
            self._results[address] = RecipientResult(address, Verdict.DEFERRED, *explained(reply))
        else:
            self._results[address] = _result(address, reply)

    def _unsupported(self) -> tuple[str, str] | None:
        """Enhanced code and text if the server cannot accept this message at all, else None."""
        limit = self._client.esmtp_extensions.get("size", "")
        if limit.isdigit() and 0 < int(limit) < len(self._mail.content):
            return "5.3.4", f"The mail server accepts messages of at most {limit} bytes"
        if self._mail.needs_smtputf8 and not self._client.supports_extension("smtputf8"):
            return "5.6.7", "The mail server does not offer SMTPUTF8"
        return None

    def _mail_parameters(self) -> list[bytes]:
        client, mail = self._client, self._mail
        parameters = []
        if client.supports_extension("size"):
            parameters.append(b"SIZE=%d" % len(mail.content))
        if client.supports_extension("8bitmime") and not mail.content.isascii():
            parameters.append(b"BODY=8BITMIME")
        if mail.needs_smtputf8:
            parameters.append(b"SMTPUTF8")
        if mail.envelope_id and client.supports_extension("dsn"):
            parameters.append(b"ENVID=" + _xtext(mail.envelope_id))
        return parameters

    # ---- the message

    async def complete(self, content: bytes, before_content: BeforeContent | None) -> dict[str, RecipientResult]:
        """Send DATA if a recipient was accepted. `content` is dot-stuffed and terminated. Raises Unreachable."""
        if not self._accepted:
            return self._results
        if before_content is not None:
            await before_content()
        with our_errors():
            start = await self._client.execute_command(b"DATA")
            if start.code == _START_CONTENT:
                await self._write(content)
        reply = await self._final_reply() if start.code == _START_CONTENT else _unsent(start)
        for address in self._accepted:
            self._results[address] = _result(address, reply)
        self.is_delivered = reply is not None and start.code == _START_CONTENT and _is_positive(reply)
        if start.code < 400 and start.code != _START_CONTENT:  # its replies are out of step with our commands
            cut(self._client)
        return self._results

    async def _write(self, content: bytes) -> None:
        """Write the content at the server's pace, then the final dot."""
        protocol = self._client.protocol
        if protocol is None:
            raise Unreachable("The connection to the mail server was lost")
        transport = cast("asyncio.WriteTransport", protocol.transport)
        transport.set_write_buffer_limits(high=0)  # so that everything before the dot was sent when it is written
        view, end = memoryview(content), len(content) - 3
        for start in range(0, end, PIECE_BYTES):
            protocol.write(bytes(view[start : min(start + PIECE_BYTES, end)]))
            async with asyncio.timeout(PIECE_TIMEOUT_SECONDS):
                await protocol._drain_helper()
        protocol.write(b".\r\n")

    async def _final_reply(self) -> SMTPResponse | None:
        """The reply to the final dot, or None when the result is uncertain."""
        protocol = self._client.protocol
        try:
            with our_errors():
                reply = await protocol.read_response(REPLY_TIMEOUT_SECONDS) if protocol is not None else None
        except (Unreachable, ServerProtocolError):
            reply = None
        if reply is None or 300 <= reply.code < 400:  # the reply to DATA, sent twice
            cut(self._client)
            return None
        return reply


def _is_positive(reply: SMTPResponse) -> bool:
    """Any 2yz means success (RFC 5321 §4.2.1)."""
    return 200 <= reply.code < 300


def _unsent(reply: SMTPResponse) -> SMTPResponse:
    """The reply to DATA when no content was sent: a 2yz or 3yz other than 354 becomes a temporary failure."""
    if reply.code >= 400:
        return reply
    return SMTPResponse(451, f"The mail server did not ask for the message: {reply.code} {reply.message}")


def _result(address: str, reply: SMTPResponse | None) -> RecipientResult:
    if reply is None:
        return RecipientResult(address, Verdict.UNCERTAIN)
    verdict = Verdict.REFUSED if 500 <= reply.code < 600 else Verdict.DEFERRED
    verdict = Verdict.ACCEPTED if _is_positive(reply) else verdict
    return RecipientResult(address, verdict, *explained(reply))


def _invalid_addresses(mail: OutgoingMail) -> dict[str, RecipientResult]:
    """Recipients that cannot be used: invalid addresses, or all of them when the sender is invalid."""
    if mail.sender and (fault := _fault(mail.sender, allow_utf8=mail.needs_smtputf8)):
        return {recipient: RecipientResult(recipient, Verdict.REFUSED, "5.1.7", fault) for recipient in mail.recipients}
    faults = {recipient: _fault(recipient, allow_utf8=mail.needs_smtputf8) for recipient in mail.recipients}
    return {
        address: RecipientResult(address, Verdict.REFUSED, "5.1.3", fault) for address, fault in faults.items() if fault
    }


def _fault(address: str, *, allow_utf8: bool) -> str | None:
    try:
        validate_address(address, "", allow_utf8=allow_utf8)
    except InvalidRequest as error:
        return error.detail
    return None


def _xtext(text: str) -> bytes:
    """Encode xtext (RFC 3461 §4)."""
    return _XTEXT_UNSAFE.sub(lambda match: f"+{ord(match[0]):02X}", text).encode("ascii")
