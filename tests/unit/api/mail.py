"""Mail to call the API about: an account with messages in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2
from app.mail.types import AccountId, Flags
from app.services.access.callers import Scope

from tests.gateway import Gateway

EVERYTHING = (Scope.MAIL_READ, Scope.MAIL_MODIFY, Scope.MAIL_DELETE, Scope.MAILBOXES)


@dataclass(frozen=True, slots=True)
class Mail:
    """One account; `client` calls with a token that may do everything with its mail."""

    gateway: Gateway
    account_id: AccountId
    client: httpx2.AsyncClient

    async def mailbox_id(self, path: str = "INBOX") -> str:
        return (await self.gateway.harness.mailbox(self.account_id, path)).id

    async def add(
        self, content: bytes, path: str = "INBOX", *, flags: Flags = frozenset(), received_at_ms: int | None = None
    ) -> str:
        """Store a message; its id."""
        harness = self.gateway.harness
        mailbox = await harness.mailbox(self.account_id, path)
        stored = await harness.store.keep(content)
        applied = await harness.store.add(self.account_id, mailbox.id, [(stored, flags, received_at_ms)])
        (id_,) = applied.message_ids.values()
        return id_

    async def get(self, path: str = "", expected: int = 200, **parameters: Any) -> Any:
        """GET below `/v1/me/messages`."""
        answer = await self.client.get(f"/v1/me/messages{path}", params=parameters)
        assert answer.status_code == expected, answer.text
        return answer.json()

    async def subjects(self, path: str = "INBOX") -> list[str]:
        """Newest first."""
        listed = await self.get(mailbox_id=await self.mailbox_id(path), limit=500)
        return [one["subject"] for one in listed["items"]]


def note(subject: str, text: str = "Some text", *headers: str) -> bytes:
    lines = [
        "From: Ann <ann@elsewhere.test>",
        "To: me@demo.test",
        f"Subject: {subject}",
        f"Message-ID: <{subject.replace(' ', '-')}@elsewhere.test>",
        *headers,
        "",
        text,
        "",
    ]
    return "\r\n".join(lines).encode()


def multipart(*parts: bytes, subtype: str = "mixed", subject: str = "parts") -> bytes:
    """A message of parts; each with its own header lines."""
    head = f'Subject: {subject}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/{subtype}; boundary="b"\r\n\r\n'
    return head.encode() + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"


async def open_mail(gateway: Gateway, email: str = "me@demo.test") -> Mail:
    account_id = await gateway.harness.add_account(email)
    return Mail(gateway, account_id, gateway.client(await gateway.token(account_id, scopes=EVERYTHING)))
