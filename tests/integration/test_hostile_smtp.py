"""SMTP servers that mean harm, as a client meets them: every wait ends, and nothing grows without bound."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from app.backends import smtp as smtp_module
from app.backends import smtp_connection
from app.backends.smtp import SmtpSubmission
from app.errors import MailServerError
from app.mail.backend import OutgoingMail, Verdict
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.integration.raw_server import raw_server
from tests.servers.hostile_imap import Dialog, Harm

MAIL = OutgoingMail("ann@demo.test", ("bob@there.test",), b"Subject: Hi\r\n\r\nHello\r\n")
PATIENCE_SECONDS = 30.0
"""Every wait is cut short for these tests: what takes this long hangs."""

STEPS = ("greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", ".")


class HostileSmtp:
    """Answers as it should, but at one step."""

    def __init__(self, step: str, harm: Harm) -> None:
        self._step, self._harm = step, harm

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialog = Dialog(reader, writer)
        await self._answer(dialog, "greeting", b"220 ready\r\n")
        while line := await reader.readline():
            verb = line.split()[0].decode()
            if verb == "DATA":
                await self._answer(dialog, verb, b"354 go\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                await self._answer(dialog, ".", b"250 taken\r\n")
            else:
                replies = {"EHLO": b"250-here\r\n250 AUTH PLAIN\r\n", "AUTH": b"235 in\r\n"}
                await self._answer(dialog, verb, replies.get(verb, b"250 ok\r\n"))

    async def _answer(self, dialog: Dialog, step: str, reply: bytes) -> None:
        if step == self._step:
            await self._harm(dialog, step)
            await dialog.reader.read()
        else:
            await dialog.say(reply)


@asynccontextmanager
async def submission(step: str, harm: Harm) -> AsyncIterator[SmtpSubmission]:
    async with raw_server(HostileSmtp(step, harm)) as port:
        login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "secret")
        one = SmtpSubmission(login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), "gateway.test")
        try:
            yield one
        finally:
            one.close()


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smtp_connection, "CONNECT_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(smtp_connection, "COMMAND_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(smtp_module, "REPLY_TIMEOUT_SECONDS", 0.5)


async def endless_line(dialog: Dialog, step: str) -> None:
    await dialog.flood(b"2", 32_000_000)


async def endless_reply(dialog: Dialog, step: str) -> None:
    await dialog.flood(b"250-x\r\n", 32_000_000)


async def slow_bytes(dialog: Dialog, step: str) -> None:
    await dialog.drip(b"250-" + b"x" * 10_000, 0.05)


async def silence(dialog: Dialog, step: str) -> None:
    await dialog.reader.read()


async def goodbye(dialog: Dialog, step: str) -> None:
    await dialog.say(b"421 closing\r\n")
    dialog.writer.close()


async def half_closing(dialog: Dialog, step: str) -> None:
    dialog.writer.write_eof()


async def nonsense(dialog: Dialog, step: str) -> None:
    await dialog.say(b"\x00\xff hello 4294967295\r\n" * 10)


HARMS = (endless_line, endless_reply, slow_bytes, silence, goodbye, half_closing, nonsense)


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: str(harm.__name__))
@pytest.mark.parametrize("step", STEPS)
async def test_14_a_hostile_smtp_server_ends_in_an_error_or_a_verdict_soon(step: str, harm: Harm) -> None:
    """Before the final dot nothing was handed over; after it nobody knows, unless the server said so."""
    async with asyncio.timeout(PATIENCE_SECONDS), submission(step, harm) as one:
        try:
            results = await one.send(MAIL)
        except MailServerError:
            assert step != "."
        else:
            verdicts = {one.verdict for one in results}
            assert verdicts <= {Verdict.DEFERRED, Verdict.REFUSED, Verdict.UNCERTAIN}
            assert step == "." or Verdict.UNCERTAIN not in verdicts
