"""The demo: a domain with two users and a mailbox with realistic mail, created once."""

from __future__ import annotations

import random
import secrets
import shlex
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import orjson

from app import files
from app.mail.identifiers import now_ms
from app.mail.types import ANSWERED, FLAGGED, SEEN, AccountId, AccountKind, Address, Flags, MailboxId
from app.mailstore.store import MailStore
from app.mime.compose import Draft, Enclosure, compose
from app.runtime import Runtime
from app.runtime.starting import open_when_reachable
from app.services.access.callers import Scope, TokenKind
from app.services.access.tokens import TokenOrder
from app.services.accounts.accounts import AccountChanges, NewAccount
from app.settings import Settings

DOMAIN = "demo.test"
USERS = (("alice", "Alice Archer"), ("bob", "Bob Builder"))
MESSAGES = 200
FILE = "demo.json"
VARIABLES_FILE = "demo.env"
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

_DAY_MS = 24 * 3600 * 1000
_PEOPLE = (
    ("Carla Cruz", "carla@example.com"),
    ("Dmitri Orlov", "dmitri@example.org"),
    ("Éloïse Dupont", "eloise@example.fr"),
    ("山田 太郎", "taro@example.jp"),
    ("Grace O'Neil", "grace@example.net"),
    ("Bob Builder", f"bob@{DOMAIN}"),
    ("Build bot", "ci@example.com"),
    ("The Weekly", "news@example.org"),
)
_SUBJECTS = """\
Invoice {n} for November
Lunch on Thursday?
Re: Quarterly figures
Minutes of the meeting
Your order {n} has shipped
Crème brûlée recipe
Build {n} passed
明日の会議について
Photos from the trip
Contract draft v{n}
Weekly digest #{n}
Can you review this?
Train tickets""".splitlines()
_SENTENCES = """\
Thanks for getting back to me so quickly.
I have attached the figures we talked about.
Could you have a look before Friday?
The meeting moved to half past three.
Nothing urgent, just keeping you posted.
The second paragraph still needs work.
Let me know what you think.
We shipped it this morning and it holds up well.
Naïve question: who owns the budget?
それでは、よろしくお願いします。""".splitlines()


@dataclass(frozen=True, slots=True)
class DemoUser:
    email: str
    password: str
    account_id: str


def settings_for(settings: Settings) -> Settings:
    """The settings of the demo: by default its domain, and access to loopback addresses."""
    return settings.model_copy(
        update={"domains": settings.domains or (DOMAIN,), "net_allow": settings.net_allow or LOOPBACK}
    )


async def prepare(settings: Settings) -> None:
    """Create users, mail, a server key and demo.json if they are missing. Waits while the database fails."""
    known = read(settings.data_dir)
    if known is not None:
        return
    async with open_when_reachable(settings, is_serving=False) as runtime:
        users = [await _user(runtime, name, full_name) for name, full_name in USERS]
        key = await _server_key(runtime)
    facts = [
        {"email": demo_user.email, "password": demo_user.password, "account_id": demo_user.account_id}
        for demo_user in users
    ]
    write({"base_url": "", "server_key": key, "users": facts, "ports": {}}, settings.data_dir)


def read(data_dir: Path) -> dict[str, Any] | None:
    """The content of demo.json, or None."""
    path = data_dir / FILE
    return orjson.loads(path.read_bytes()) if path.exists() else None


def write(demo: dict[str, Any], data_dir: Path) -> Path:
    """Write demo.json and, once the demo listens, demo.env, readable by their owner only."""
    path = data_dir / FILE
    files.replace(path, orjson.dumps(demo, option=orjson.OPT_INDENT_2) + b"\n")
    if demo["base_url"]:
        lines = (f"{name}={shlex.quote(str(value))}\n" for name, value in variables(demo).items())
        files.replace(data_dir / VARIABLES_FILE, "".join(lines).encode())
    return path


def variables(demo: dict[str, Any]) -> dict[str, object]:
    """The shell variables that README's commands use."""
    alice, bob = demo["users"]
    return {
        "URL": demo["base_url"],
        "KEY": demo["server_key"],
        "ACCOUNT": f"{demo['base_url']}/v1/accounts/{alice['account_id']}",
        "PASSWORD": bob["password"],
        "IMAP_PORT": demo["ports"].get("imap", ""),
        "SMTP_PORT": demo["ports"].get("smtp", ""),
        "SUBMISSION_PORT": demo["ports"].get("submission", ""),
    }


def what_to_try(demo: dict[str, Any], path: Path) -> str:
    """Lines to paste into another terminal."""
    alice, bob = demo["users"]
    ports, names = demo["ports"], variables(demo)
    return f"""\
Postgate is at {names["URL"]} (API explorer: {names["URL"]}/docs). Keys and passwords are in {path}.

In another terminal, in this directory:

. {shlex.quote(str(path.with_name(VARIABLES_FILE)))}   # sets URL, KEY, ACCOUNT={names["ACCOUNT"]}
                      # and PASSWORD, IMAP_PORT, SMTP_PORT, SUBMISSION_PORT

# List mail:
curl -s -H "Authorization: Bearer $KEY" "$ACCOUNT/messages?limit=3"

# Follow events:
curl -sN -H "Authorization: Bearer $KEY" -H 'Accept: text/event-stream' "$ACCOUNT/events"

# Deliver a test mail; it appears on the stream:
printf 'From: you@example.com\\nTo: {alice["email"]}\\nSubject: Hello\\n\\nIt works.\\n' | \\
  curl -s "smtp://127.0.0.1:$SMTP_PORT" --mail-from you@example.com --mail-rcpt {alice["email"]} --crlf -T -

# Mail programs: IMAP {ports.get("imap")}, POP3 {ports.get("pop3")}, submission {ports.get("submission")} on 127.0.0.1,
# users {alice["email"]} and {bob["email"]}; the file has their passwords.
"""


async def _user(runtime: Runtime, name: str, full_name: str) -> DemoUser:
    email = f"{name}@{DOMAIN}"
    password = secrets.token_urlsafe(12)
    existing = await runtime.deliveries.account_of(email)
    if existing is not None:  # demo.json was lost, and the password with it
        await runtime.services.accounts.update(existing, AccountChanges(password=password))
        return DemoUser(email, password, existing)
    account = await runtime.services.accounts.add(NewAccount(AccountKind.EMBEDDED, email, full_name, password=password))
    if name == "alice":
        await _fill(runtime, account.id, Address(full_name, email))
    return DemoUser(email, password, account.id)


async def _server_key(runtime: Runtime) -> str:
    order = TokenOrder(TokenKind.SERVER, frozenset(Scope), name="demo")
    _, secret = await runtime.services.tokens.create(order)
    return secret


# ---- demo mail


async def _fill(runtime: Runtime, account_id: AccountId, own: Address) -> None:
    """Add MESSAGES messages of the last half year. Only their dates differ between runs."""
    mailboxes = {mailbox.path: mailbox.id for mailbox in await runtime.reader.mailboxes.mailboxes(account_id)}
    chance = random.Random(20)  # noqa: S311 - the same mail every time
    now = now_ms()
    ages = sorted((int(chance.random() ** 2 * 180 * _DAY_MS) + 60_000 for _ in range(MESSAGES)), reverse=True)
    for number, age in enumerate(ages, 1):
        place, draft, flags = _message(number, now - age, own, chance)
        await _put(runtime.store, account_id, mailboxes[place], compose(draft), flags, now - age)


async def _put(
    store: MailStore, account_id: AccountId, mailbox_id: MailboxId, content: bytes, flags: Flags, received_at_ms: int
) -> None:
    await store.add(account_id, mailbox_id, [(await store.keep(content), flags, received_at_ms)])


def _message(number: int, date_ms: int, own: Address, chance: random.Random) -> tuple[str, Draft, Flags]:
    """The mailbox, content and flags of a message."""
    person = Address(*chance.choice(_PEOPLE))
    is_sent = number % 8 == 0
    place = "Sent" if is_sent else chance.choices(("INBOX", "Archive", "Junk", "Trash"), (85, 10, 3, 2))[0]
    text = "\n\n".join(chance.choice(_SENTENCES) for _ in range(chance.randint(2, 9)))
    subject = chance.choice(_SUBJECTS).format(n=1000 + number)
    draft = Draft(
        from_=own if is_sent else person,
        to=(person,) if is_sent else (own,),
        message_id=f"<demo-{number}@{DOMAIN}>",
        date_ms=date_ms,
        subject=subject,
        text=f"Hello,\n\n{text}\n\nBest regards\n",
        html=f"<p>Hello,</p><p>{text.replace(chr(10) * 2, '</p><p>')}</p><p>Best regards</p>"
        if number % 3 == 0
        else None,
        enclosures=_attachments(number, chance),
        references=(f"<demo-{number - 5}@{DOMAIN}>",) if subject.startswith("Re:") and number > 5 else (),
    )
    return place, draft, _flags(number, is_sent, chance)


def _flags(number: int, is_sent: bool, chance: random.Random) -> Flags:
    flags = {SEEN} if is_sent or number < MESSAGES * 9 // 10 else set()
    if chance.random() < 0.08:
        flags.add(FLAGGED)
    if chance.random() < 0.15:
        flags.add(ANSWERED)
    return frozenset(flags)


def _attachments(number: int, chance: random.Random) -> tuple[Enclosure, ...]:
    if number % 6:
        return ()
    rows = "\n".join(f"{day},{chance.randint(10, 99)}.{chance.randint(0, 99):02}" for day in range(1, 31))
    return (Enclosure(f"figures-{number}.csv", "text/csv; charset=utf-8", f"day,amount\n{rows}\n".encode()),)
