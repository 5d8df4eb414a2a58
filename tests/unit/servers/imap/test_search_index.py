"""What SEARCH finds by the full-text index is what it finds when it reads every message."""

from __future__ import annotations

import asyncio
import base64
import quopri
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from app.mail.types import AccountId
from app.mailstore.texts import TextIndex
from app.workers.text_index_quota import TextIndexQuota, TextLimits
from app.workers.text_indexer import TextIndexer, TextReader
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway import FakeBackends
from tests.harness import Harness, open_harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import PASSWORD, USER, Talk

COUNT, FIRST = 16, 12
LETTERS = 'aBc dE1é\u00c9ß\u0130\u01c5漢\u0301\U0001f600%_"\\*(){}:=?<>\n\t'
CUTS: tuple[Callable[[str], str], ...] = (str.upper, str.lower, str.title, str)
FIELDS = ("BODY", "TEXT", "HEADER Subject", "HEADER x-trace", "HEADER x-none", "HEADER content-type")
texts = st.text(st.sampled_from(LETTERS), max_size=30)
lines = texts.map(lambda text: " ".join(text.split()))


def part(kind: str, encoding: str, charset: str, text: str) -> bytes:
    raw = text.encode(charset, "replace").replace(b"\n", b"\r\n")
    if encoding == "base64":
        raw = base64.encodebytes(raw)
    elif encoding == "quoted-printable":
        raw = quopri.encodestring(raw)
    return (
        f"----b\r\nContent-Type: {kind}; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode()
        + raw
        + b"\r\n"
    )


def encoded(text: str, way: str) -> str:
    raw = text.encode()
    if way == "b":
        return f"=?utf-8?b?{base64.b64encode(raw).decode()}?="
    return text if way == "raw" else "=?utf-8?q?" + "".join(f"={byte:02X}" for byte in raw) + "?="


def message(subject: str, trace: str, parts: Sequence[bytes]) -> bytes:
    head = f"From: a@x.test\r\nX-Trace: {trace}\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
    return b"".join([head.encode(), b'Content-Type: multipart/mixed; boundary="--b"\r\n\r\n', *parts, b"----b--\r\n"])


@st.composite
def mails(draw: st.DrawFn, words: list[str]) -> bytes:
    """A message; what it is made of is added to `words`."""
    subject, trace = draw(lines), draw(lines)
    bodies = draw(st.lists(texts, max_size=3))
    words += [subject, trace, *bodies]
    parts = [
        part(
            draw(st.sampled_from(["text/plain", "text/html", "application/octet-stream", "message/rfc822"])),
            draw(st.sampled_from(["8bit", "base64", "quoted-printable", "x-unknown"])),
            draw(st.sampled_from(["utf-8", "iso-8859-1", "utf-16"])),
            body,
        )
        for body in bodies
    ]
    return message(encoded(subject, draw(st.sampled_from(["b", "q", "raw"]))), trace, parts)


@st.composite
def criteria(draw: st.DrawFn, words: list[str]) -> bytes:
    """A criterion whose text was cut out of the mail, in another case perhaps."""
    source = draw(st.sampled_from(words))
    start = draw(st.integers(0, len(source)))
    term = draw(st.sampled_from(CUTS))(source[start : start + draw(st.integers(0, 12))]).encode()
    return b"%b {%d+}\r\n%b" % (draw(st.sampled_from(FIELDS)).encode(), len(term), term)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    words = ["charset", "", "xyz"]
    contents = [draw(mails(words)) for _ in range(COUNT)]
    plain = [draw(criteria(words)) for _ in range(12)]
    mixed = [
        b"NOT %b" % plain[0],
        b"OR %b %b" % (plain[1], plain[2]),
        b"%b NOT (%b %b)" % (plain[3], plain[4], plain[5]),
        b"SEEN OR (%b) %b" % (plain[6], plain[7]),
    ]
    return contents, plain + mixed


async def fill(harness: Harness) -> None:
    text_index = TextIndex(harness.database)
    reader = TextReader(harness.reader, text_index, TextLimits(256 * 1024, 16 * 1024 * 1024))
    await TextIndexer(harness.index, harness.reader, text_index, FakeBackends(harness), reader).fill()


async def put(harness: Harness, contents: Sequence[bytes]) -> AccountId:
    account_id = (await harness.logins.verify(USER, PASSWORD, address="127.0.0.1")).account_id
    inbox = await harness.mailbox(account_id)
    for at_ms, content in enumerate(contents, 1):
        flags = frozenset({"\\Seen"} if at_ms % 2 else ())
        await harness.store.add(account_id, inbox.id, [(await harness.store.keep(content), flags, at_ms)])
    return account_id


async def found(harness: Harness, asked: Sequence[bytes]) -> list[bytes]:
    talk = await Talk.logged_in(harness, "SELECT INBOX")
    answers = [await talk.say(b"SEARCH CHARSET UTF-8 " + one) for one in asked]
    assert all(answer[-1] == b"a OK SEARCH completed" for answer in answers), answers
    return [answer[0] for answer in answers]


async def compare(contents: list[bytes], asked: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        async with open_harness(Path(folder)) as harness:
            await harness.add_account(USER, PASSWORD)
            account_id = await put(harness, contents[:FIRST])
            by_reading = await found(harness, asked)
            await fill(harness)
            assert await found(harness, asked) == by_reading

            await put(harness, contents[FIRST:])
            in_part = await found(harness, asked)
            await fill(harness)
            assert await found(harness, asked) == in_part

            text_index = TextIndex(harness.database)
            size = await text_index.size_bytes(account_id)
            await TextIndexQuota(text_index, TextLimits(1024, size // 2)).hold()
            assert await found(harness, asked) == in_part
            await TextIndexQuota(text_index, TextLimits(0, 0)).hold()
            assert await found(harness, asked) == in_part


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(scenes())
def test_a_search_finds_the_same_by_the_index_as_by_reading_every_message(
    scene: tuple[list[bytes], list[bytes]],
) -> None:
    asyncio.run(compare(*scene))


def take_bytes_away(folder: Path) -> None:
    """From here on no message can be read."""
    for blob in (one for one in folder.rglob("blobs/**/*") if one.is_file()):
        blob.unlink()


async def test_messages_in_the_index_are_not_read(harness: Harness, tmp_path: Path) -> None:
    await put(
        harness, [mail(f"Number {number}", Received="x" * 70_000 if number == 3 else "x") for number in range(20)]
    )
    await fill(harness)
    take_bytes_away(tmp_path)

    asked = [b"TEXT {8+}\r\nnumber 7", b"HEADER Subject {8+}\r\nnumber 7", b"NOT TEXT number", b"HEADER X-None x"]
    assert await found(harness, asked) == [b"* SEARCH 8", b"* SEARCH 8", b"* SEARCH", b"* SEARCH"]


async def test_a_message_that_went_is_told_of_whether_or_not_it_had_the_text(harness: Harness) -> None:
    await put(harness, [mail(f"Number {number}") for number in range(20)])
    await fill(harness)
    talk, other = [await Talk.logged_in(harness, "SELECT INBOX") for _ in range(2)]
    await other.say("STORE 5 +FLAGS (\\Deleted)")
    await other.say("EXPUNGE")

    answers = await talk.say("SEARCH TEXT {8+}\r\nnumber 7")

    assert answers == [b"* SEARCH 8", b"a OK [EXPUNGEISSUED] Some messages were expunged"]
