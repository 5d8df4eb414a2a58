"""Messages of realistic sizes, the same ones in every run.

Of a hundred, about 60 are short texts (1–6 KB), 35 have HTML beside the text (10–50 KB) and 4 a file (20–200 KB);
every 500th holds an attachment of exactly 1 MB. Together 10,000 are some 200 MB.
"""

import base64
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Literal

Kind = Literal["text", "html", "file", "large"]

LARGE_EVERY = 500
LARGE_BYTES = 1_000_000
SUBJECT_WORD = "Quarterly"
"""In the subject of every 50th message."""
TEXT_WORD = "Zanzibar"
"""In the text of every 200th message, and nowhere else."""
_START = datetime(2024, 1, 1, 8, tzinfo=UTC)
_BASE64_LINE_BYTES = 57

_WORD_LIST = (
    "the of and to in a is that it was for on are with as be at this have from or had by but some what there we can "
    "out other were all your when up use word how said an each which she do their time if will way about many then "
    "them would write like so these her long make thing see him two has look more day could go come did my sound no "
    "most number who over know water than call first people may down side been now find any new work part take get "
    "place made live where after back little only round man year came show every good me give our under meeting "
    "report project budget customer delivery contract schedule team question answer please regards"
)
_WORDS = _WORD_LIST.split()
_NAMES = ("Ann Lee", "Bob Marsh", "Chloé Dubois", "Dora Weiß", "Emil Novak", "Fatima Haddad", "Goran Ilić", "Hana Sato")
_TOPICS = ("Budget", "Delivery", "Meeting notes", "Contract", "Travel plans", "Release", "Customer question", "Lunch")
_FILE = random.Random(7).randbytes(LARGE_BYTES)


@dataclass(frozen=True, slots=True)
class Seed:
    """Message `number` (from 0) as it goes into a mailbox; `received_at` grows with the number."""

    number: int
    kind: Kind
    content: bytes
    received_at: datetime


def message_id(number: int) -> str:
    """The Message-ID field of message `number`."""
    return f"<bench-{number}@elsewhere.test>"


def seed(number: int) -> Seed:
    """Message `number`."""
    rng = random.Random(number)
    kind = _kind(number, rng)
    received_at = _START + timedelta(minutes=7 * number)
    text = _text(rng, rng.randrange(1_000, 6_000))
    if number % 200 == 0:
        text += f"\r\nSee you in {TEXT_WORD}.\r\n"
    content = _header(number, rng, received_at) + _body(kind, text, rng)
    return Seed(number, kind, content.encode(), received_at)


def small(number: int, subject: str = "A small message") -> bytes:
    """A message of some 600 bytes, to deliver."""
    rng = random.Random(number)
    header = (
        f"From: Ann Lee <ann.lee@elsewhere.test>\r\nTo: someone@mail.test\r\nSubject: {subject} {number}\r\n"
        f"Message-ID: <small-{number}@elsewhere.test>\r\nDate: {format_datetime(_START)}\r\n"
    )
    return (header + _plain(_text(rng, 300))).encode()


def _kind(number: int, rng: random.Random) -> Kind:
    if number % LARGE_EVERY == LARGE_EVERY - 1:
        return "large"
    chance = rng.random()
    if chance < 0.04:
        return "file"
    return "html" if chance < 0.4 else "text"


def _header(number: int, rng: random.Random, received_at: datetime) -> str:
    name = rng.choice(_NAMES)
    address = ".".join(part.encode("ascii", "ignore").decode().lower() for part in name.split())
    prefix = "Re: " if rng.random() < 0.4 else ""
    topic = f"{SUBJECT_WORD} figures" if number % 50 == 0 else rng.choice(_TOPICS)
    answered = f"In-Reply-To: {message_id(number - 1)}\r\nReferences: {message_id(number - 1)}\r\n" if prefix else ""
    return (
        "Received: from mx.elsewhere.test (mx.elsewhere.test [192.0.2.7])\r\n\tby mail.test (Postfix) with ESMTPS\r\n"
        f"\tfor <someone@mail.test>; {format_datetime(received_at)}\r\n"
        f"From: {_phrase(name)} <{address}@elsewhere.test>\r\n"
        "To: Someone <someone@mail.test>, Team <team@mail.test>\r\n"
        f"Subject: {prefix}{topic} {number}\r\n"
        f"Date: {format_datetime(received_at)}\r\nMessage-ID: {message_id(number)}\r\n{answered}"
        "MIME-Version: 1.0\r\n"
    )


def _phrase(name: str) -> str:
    if name.isascii():
        return name
    return f"=?utf-8?b?{base64.b64encode(name.encode()).decode()}?="


def _body(kind: Kind, text: str, rng: random.Random) -> str:
    match kind:
        case "text":
            return _plain(text)
        case "html":
            return _alternative(text, rng)
        case "file":
            return _with_file(text, rng.randrange(20_000, 200_000), rng)
        case "large":
            return _with_file(text, LARGE_BYTES, rng)


def _plain(text: str) -> str:
    return f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}"


def _alternative(text: str, rng: random.Random) -> str:
    rows = "".join(
        f'<tr><td style="padding:4px 8px;font-family:Arial"><a href="https://elsewhere.test/{one}">{line}</a></td></tr>\r\n'
        for one, line in enumerate(_text(rng, rng.randrange(6_000, 30_000)).split("\r\n"))
        if line
    )
    html = f"<html><head><style>td {{color:#333}}</style></head><body><table>\r\n{rows}</table></body></html>\r\n"
    return _multipart("alternative", _plain(text), f"Content-Type: text/html; charset=utf-8\r\n\r\n{html}", rng=rng)


def _with_file(text: str, size: int, rng: random.Random) -> str:
    lines = (
        base64.b64encode(_FILE[at : min(at + _BASE64_LINE_BYTES, size)]).decode()
        for at in range(0, size, _BASE64_LINE_BYTES)
    )
    file = (
        'Content-Type: application/pdf; name="report.pdf"\r\nContent-Transfer-Encoding: base64\r\n'
        'Content-Disposition: attachment; filename="report.pdf"\r\n\r\n' + "\r\n".join(lines) + "\r\n"
    )
    return _multipart("mixed", _plain(text), file, rng=rng)


def _multipart(subtype: str, *parts: str, rng: random.Random) -> str:
    boundary = f"=_{rng.randrange(10**12):012}"
    body = "".join(f"--{boundary}\r\n{part}\r\n" for part in parts)
    return f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n{body}--{boundary}--\r\n'


def _text(rng: random.Random, size: int) -> str:
    """About `size` bytes of words in lines."""
    words = rng.choices(_WORDS, k=size // 5)
    return "".join(" ".join(words[at : at + 12]) + "\r\n" for at in range(0, len(words), 12))
