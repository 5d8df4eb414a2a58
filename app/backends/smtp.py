"""Submission by SMTP (RFC 6409): a message handed over, a result per recipient, and certainty about what left.

Up to the final dot a lost connection means that nothing was handed over: Unreachable. After it, without a reply,
nobody knows: UNCERTAIN.
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
"""At a time, of one account."""
IDLE_SECONDS = 20.0
"""How long a connection waits for the next message."""
PIECE_BYTES = 64 * 1024
PIECE_TIMEOUT_SECONDS = 180.0
REPLY_TIMEOUT_SECONDS = 600.0
"""For the reply to the final dot (RFC 5321 §4.5.3.2.6)."""

_START_CONTENT = 354
_XTEXT_UNSAFE = re.compile(r"[^!-*,-<>-~]")

BeforeContent = Callable[[], Awaitable[None]]


class SmtpSubmission:
    """A Submission at one server. Its connections are kept for a while, so that the next message finds one open."""

    def __init__(
        self,
        server: ServerLogin,
        guard: NetGuard,
        tls: ssl.SSLContext,
        client_name: str,
        new_recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        """`client_name` is what we say in EHLO. Without a user name there is no login.

        `new_recorder` makes what each new connection tells its lines to.
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
            await self._put_away(client, needs_reset=not envelope.is_delivered)
        results |= refused
        return [results[address] for address in mail.recipients]

    async def verify(self) -> None:
        self._keep(await self._opened())

    async def _opened(self) -> aiosmtplib.SMTP:
        recorder = self._new_recorder() if self._new_recorder is not None else None
        return await open_client(self._server, self._guard, self._tls, self._client_name, recorder)

    def close(self) -> None:
        """Close the connections that wait."""
        for client, timer in self._idle.items():
            timer.cancel()
            cut(client)
        self._idle.clear()

    async def _begin(self, mail: OutgoingMail, recipients: Sequence[str]) -> tuple[aiosmtplib.SMTP, _Envelope]:
        """A connection that has sent sender and recipients. A pooled connection may be dead: then a new one."""
        while (client := self._take()) is not None:
            with contextlib.suppress(Unreachable):
                return client, await self._told(client, mail, recipients)
        client = await self._opened()
        return client, await self._told(client, mail, recipients)

    async def _told(self, client: aiosmtplib.SMTP, mail: OutgoingMail, recipients: Sequence[str]) -> _Envelope:
        envelope = _Envelope(client, mail)
        try:
            await envelope.tell(recipients)
        except BaseException:
            cut(client)
            raise
        return envelope

    # ---- connections that wait

    def _take(self) -> aiosmtplib.SMTP | None:
        while self._idle:
            client, timer = self._idle.popitem()
            timer.cancel()
            if client.is_connected:
                return client
        return None

    async def _put_away(self, client: aiosmtplib.SMTP, *, needs_reset: bool) -> None:
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
    """One mail transaction: what the server said of each recipient, then of the message."""

    def __init__(self, client: aiosmtplib.SMTP, mail: OutgoingMail) -> None:
        self._client = client
        self._mail = mail
        self._accepted: list[str] = []
        self._results: dict[str, RecipientResult] = {}
        self.is_delivered = False

    # ---- sender and recipients

    async def tell(self, recipients: Sequence[str]) -> None:
        """MAIL and RCPT. Raises Unreachable, ServerProtocolError: nothing was handed over."""
        if (impossible := self._impossible()) is not None:
            self._results = {
                recipient: RecipientResult(recipient, Verdict.REFUSED, *impossible) for recipient in recipients
            }
            return
        with our_errors():
            answer = await self._client.execute_command(
                b"MAIL", b"FROM:<" + self._mail.sender.encode() + b">", *self._mail_parameters()
            )
            if not _is_yes(answer):
                self._results = {recipient: _result(recipient, answer) for recipient in recipients}
                return
            for address in recipients:
                await self._tell_recipient(address)

    async def _tell_recipient(self, address: str) -> None:
        parameters = []
        if self._mail.dsn_notify and self._client.supports_extension("dsn"):
            parameters.append(b"NOTIFY=" + ",".join(self._mail.dsn_notify).encode("ascii"))
        answer = await self._client.execute_command(b"RCPT", b"TO:<" + address.encode() + b">", *parameters)
        if _is_yes(answer):  # 252 too: OCI answers it to every recipient
            self._accepted.append(address)
        elif answer.code == 552:  # too many recipients, as servers once said it (RFC 5321 §4.5.3.1.10)
            self._results[address] = RecipientResult(address, Verdict.DEFERRED, *explained(answer))
        else:
            self._results[address] = _result(address, answer)

    def _impossible(self) -> tuple[str, str] | None:
        """Enhanced code and text where the server could not take this message at all."""
        limit = self._client.esmtp_extensions.get("size", "")
        if limit.isdigit() and 0 < int(limit) < len(self._mail.content):
            return "5.3.4", f"The mail server takes messages of {limit} bytes at most"
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
        """DATA, where anyone was accepted. `content` is dot-stuffed, with its end. Raises Unreachable."""
        if not self._accepted:
            return self._results
        if before_content is not None:
            await before_content()
        with our_errors():
            start = await self._client.execute_command(b"DATA")
            if start.code == _START_CONTENT:
                await self._write(content)
        answer = await self._final_answer() if start.code == _START_CONTENT else _unsent(start)
        for address in self._accepted:
            self._results[address] = _result(address, answer)
        self.is_delivered = answer is not None and start.code == _START_CONTENT and _is_yes(answer)
        if start.code < 400 and start.code != _START_CONTENT:  # its answers are out of step with our commands
            cut(self._client)
        return self._results

    async def _write(self, content: bytes) -> None:
        """All up to the final dot, in the server's own time; then the dot."""
        protocol = self._client.protocol
        if protocol is None:
            raise Unreachable("The connection to the mail server was lost")
        transport = cast("asyncio.WriteTransport", protocol.transport)
        transport.set_write_buffer_limits(high=0)  # so that all has left us when the dot is written
        view, end = memoryview(content), len(content) - 3
        for start in range(0, end, PIECE_BYTES):
            protocol.write(bytes(view[start : min(start + PIECE_BYTES, end)]))
            async with asyncio.timeout(PIECE_TIMEOUT_SECONDS):
                await protocol._drain_helper()
        protocol.write(b".\r\n")

    async def _final_answer(self) -> SMTPResponse | None:
        """What the server says of the message; None where nobody knows."""
        protocol = self._client.protocol
        try:
            with our_errors():
                answer = await protocol.read_response(REPLY_TIMEOUT_SECONDS) if protocol is not None else None
        except (Unreachable, ServerProtocolError):
            answer = None
        if answer is None or 300 <= answer.code < 400:  # as the answer to DATA, told twice
            cut(self._client)
            return None
        return answer


def _is_yes(answer: SMTPResponse) -> bool:
    """Any 2yz means success (RFC 5321 §4.2.1)."""
    return 200 <= answer.code < 300


def _unsent(answer: SMTPResponse) -> SMTPResponse:
    """The answer to DATA where the content did not follow: a yes that asks for none takes no message."""
    if answer.code >= 400:
        return answer
    return SMTPResponse(451, f"The mail server did not ask for the message: {answer.code} {answer.message}")


def _result(address: str, answer: SMTPResponse | None) -> RecipientResult:
    if answer is None:
        return RecipientResult(address, Verdict.UNCERTAIN)
    verdict = Verdict.REFUSED if 500 <= answer.code < 600 else Verdict.DEFERRED
    verdict = Verdict.ACCEPTED if _is_yes(answer) else verdict
    return RecipientResult(address, verdict, *explained(answer))


def _invalid_addresses(mail: OutgoingMail) -> dict[str, RecipientResult]:
    """Recipients that cannot be sent to: those that are no addresses, or all where the sender is none."""
    if mail.sender and (fault := _fault(mail.sender, allow_utf8=mail.needs_smtputf8)):
        return {recipient: RecipientResult(recipient, Verdict.REFUSED, "5.1.7", fault) for recipient in mail.recipients}
    faults = {recipient: _fault(recipient, allow_utf8=mail.needs_smtputf8) for recipient in mail.recipients}
    return {one: RecipientResult(one, Verdict.REFUSED, "5.1.3", fault) for one, fault in faults.items() if fault}


def _fault(address: str, *, allow_utf8: bool) -> str | None:
    try:
        validate_address(address, "", allow_utf8=allow_utf8)
    except InvalidRequest as error:
        return error.detail
    return None


def _xtext(text: str) -> bytes:
    """RFC 3461 §4."""
    return _XTEXT_UNSAFE.sub(lambda match: f"+{ord(match[0]):02X}", text).encode("ascii")
