"""The embedded SMTP and POP3 servers on real ports, over a store in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.servers.admission import Admission
from app.servers.listener import Listener
from app.servers.pop3 import Pop3Conversation, Pop3Site
from app.servers.smtp import ListenerRole, SmtpConversation, SmtpSite
from app.services.accounts.maildrops import Maildrops

from tests.harness import Harness, open_harness
from tests.servers.tls import TlsFiles

HOST = "127.0.0.1"
MAX_MESSAGE_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Embedded:
    """Ports of each server; those with an s at the end speak TLS from the first byte."""

    harness: Harness
    submission: int
    submissions: int
    mx: int
    lmtp: int
    pop3: int
    pop3s: int


@asynccontextmanager
async def embedded_servers(folder: Path, tls: TlsFiles) -> AsyncIterator[Embedded]:
    """The servers, with ann@demo.test and bob@demo.test (password "secret") in the harness."""
    async with open_harness(folder) as harness:
        for name in ("ann", "bob"):
            await harness.add_account(f"{name}@demo.test")
        admission, context = Admission(), tls.good.server_context()
        sites = {
            role: SmtpSite(role, "mail.demo.test", harness.deliveries, harness.logins, MAX_MESSAGE_BYTES)
            for role in ListenerRole
        }
        pop3_site = Pop3Site("mail.demo.test", harness.logins, Maildrops(harness.database, harness.store))

        def smtp(role: ListenerRole) -> Listener:
            return Listener(role.value, lambda peer: SmtpConversation(peer, sites[role]), admission, context)

        submission, mx, lmtp = smtp(ListenerRole.SUBMISSION), smtp(ListenerRole.MX), smtp(ListenerRole.LMTP)
        pop3 = Listener("pop3", lambda peer: Pop3Conversation(peer, pop3_site), admission, context)
        try:
            yield Embedded(
                harness,
                submission=await submission.start(HOST, 0),
                submissions=await submission.start(HOST, 0, is_implicit_tls=True),
                mx=await mx.start(HOST, 0),
                lmtp=await lmtp.start(HOST, 0),
                pop3=await pop3.start(HOST, 0),
                pop3s=await pop3.start(HOST, 0, is_implicit_tls=True),
            )
        finally:
            for listener in (submission, mx, lmtp, pop3):
                await listener.close(2.0)
