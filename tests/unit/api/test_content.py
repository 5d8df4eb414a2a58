from __future__ import annotations

import asyncio
import base64
import os
import struct
import tracemalloc
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx2
import pytest
from app.backends.local import LocalBackend
from app.errors import PartNotFound, TooComplex
from app.mail.backend import WHOLE, ByteRange
from app.mail.types import Message
from app.mailstore.reading.messages import MessageReader
from app.mime.structure import MAX_PARTS
from app.services.reading.content import Content

from tests.cpu import at_most_cpu_seconds
from tests.unit.api.mail import Mail, multipart, note

CORPUS = Path(__file__).parents[2] / "corpus" / "mime"


def _with_attachment(content: bytes, filename: str = "a.bin", content_type: str = "application/octet-stream") -> bytes:
    message = EmailMessage()
    message["Subject"] = "With attachment"
    message.set_content("See attachment")
    main, _, sub = content_type.partition("/")
    message.add_attachment(content, maintype=main, subtype=sub, filename=filename)
    return message.as_bytes().replace(b"\n", b"\r\n")


class Counting:
    """Parsers that count their jobs, and find `too_complex` of them too complex."""

    def __init__(self, too_complex: bool = False) -> None:
        self.jobs: list[str] = []
        self._too_complex = too_complex

    async def run(self, key: str, size_bytes: int, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.jobs.append(work.__name__)
        await asyncio.sleep(0)
        if self._too_complex:
            raise TooComplex
        return work(*args, **kwargs)


def _parsed_by(mail: Mail, parsers: Counting) -> Counting:
    mail.gateway.services.content = Content(mail.gateway.backends, mail.gateway.harness.reader, parsers)
    return parsers


async def test_a_large_body_is_rendered_once_for_all_who_ask_for_it_and_kept(mail: Mail) -> None:
    id_ = await mail.add(note("large", "<p>word</p>" * 10_000, "Content-Type: text/html"))
    parsers = _parsed_by(mail, Counting())
    path = f"/v1/me/messages/{id_}/body"

    answers = await asyncio.gather(*(mail.client.get(path) for _ in range(8)))
    later = await mail.client.get(path)

    assert len({one.text for one in (*answers, later)}) == 1
    assert parsers.jobs == ["render_with_pictures"]


async def test_thousands_of_pictures_are_read_in_bounded_work(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = b"Content-Type: image/png\r\nContent-ID: <%d@x>\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA"
    pictures = [picture % number for number in range(2_000)]
    html = b'Content-Type: text/html\r\n\r\n<img src="cid:0@x"><img src="cid:1999@x">'
    id_ = await mail.add(multipart(html, *pictures, subtype="related"))
    looked_up: list[object] = []
    detail = MessageReader.detail

    async def counted(self: MessageReader, *args: Any) -> Any:
        looked_up.append(args)
        return await detail(self, *args)

    monkeypatch.setattr(MessageReader, "detail", counted)
    shown = await mail.client.get(f"/v1/me/messages/{id_}/body")
    full = await mail.get(f"/{id_}", view="full")

    assert '<img src="data:image/png;base64,AAAA"><img>' in shown.text
    assert len(full["attachments"]) == MAX_PARTS - 2  # the message and its text are parts too
    assert len(looked_up) < 10


async def test_a_kept_body_is_of_its_images_alone(mail: Mail) -> None:
    id_ = await mail.add(note("images", '<img src="https://t.example/x.png">', "Content-Type: text/html"))
    path = f"/v1/me/messages/{id_}/body"

    blocked, inline, again = [
        (await mail.client.get(path, params={"images": images})).text for images in ("block", "inline", "block")
    ]

    assert "data-blocked-src" in blocked
    assert "data-blocked-src" not in inline
    assert again == blocked


async def test_a_body_that_is_too_complex_is_text_with_a_note(mail: Mail) -> None:
    id_ = await mail.add(note("complex", "<p>one</p> <b>two &amp; three</b>", "Content-Type: text/html"))
    _parsed_by(mail, Counting(too_complex=True))

    shown = await mail.client.get(f"/v1/me/messages/{id_}/body", params={"format": "text"})

    assert shown.status_code == 200
    assert shown.text.startswith("[the message is too complex to show: this is the beginning of its text]")
    assert shown.text.split()[-4:] == ["one", "two", "&", "three"]


async def _attachment_path(mail: Mail, id_: str) -> str:
    (attachment,) = (await mail.get(f"/{id_}", view="full"))["attachments"]
    return f"/v1/me/messages/{id_}/attachments/{attachment['id']}"


async def _download(mail: Mail, path: str, **headers: str) -> httpx2.Response:
    return await mail.client.get(path, headers=headers)


async def test_the_raw_message_is_what_was_stored(mail: Mail) -> None:
    content = note("Invoice / 7", "x" * 300_000)
    id_ = await mail.add(content)
    path = f"/v1/me/messages/{id_}/raw"

    whole = await _download(mail, path)

    assert whole.content == content
    assert whole.headers["Content-Type"] == "message/rfc822"
    assert whole.headers["Content-Length"] == str(len(content))
    assert whole.headers["Content-Disposition"] == 'attachment; filename="Invoice - 7.eml"'
    head = await mail.client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(content))
    known = await _download(mail, path, **{"If-None-Match": whole.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=10-", 10, None), ("bytes=-5", -5, None), ("bytes=5-999999", 5, None)],
)
@pytest.mark.parametrize("what", ["raw", "attachment"])
async def test_a_range_is_a_slice(mail: Mail, what: str, wanted: str, start: int, stop: int | None) -> None:
    content = _with_attachment(os.urandom(5_000))
    id_ = await mail.add(content)
    path = f"/v1/me/messages/{id_}/raw" if what == "raw" else await _attachment_path(mail, id_)
    whole = (await _download(mail, path)).content

    part = await _download(mail, path, Range=wanted)

    expected = whole[start:stop]
    first = len(whole) + start if start < 0 else start
    assert (part.status_code, part.content) == (206, expected)
    assert part.headers["Content-Length"] == str(len(expected))
    assert part.headers["Content-Range"] == f"bytes {first}-{first + len(expected) - 1}/{len(whole)}"


@pytest.mark.parametrize("wanted", ["bytes=999999-", "bytes=9-5", "bytes=-0", "bytes=x-y", "bytes=", "bytes=-"])
async def test_a_range_that_is_none_is_refused_with_the_size(mail: Mail, wanted: str) -> None:
    content = note("one")
    id_ = await mail.add(content)

    answer = await _download(mail, f"/v1/me/messages/{id_}/raw", Range=wanted)

    assert (answer.status_code, answer.json()["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(content)}"


async def test_a_range_of_another_representation_is_the_whole(mail: Mail) -> None:
    content = note("one")
    path = f"/v1/me/messages/{await mail.add(content)}/raw"
    etag = (await _download(mail, path)).headers["ETag"]

    assert (await _download(mail, path, **{"Range": "bytes=0-1", "If-Range": '"other"'})).content == content
    assert (await _download(mail, path, **{"Range": "bytes=0-1", "If-Range": etag})).content == content[:2]
    assert (await _download(mail, path, Range="lines=0-1")).content == content


async def test_downloads_of_ten_thousand_ranges_take_no_longer(mail: Mail) -> None:
    """Many ranges at once are answered by the whole."""
    content = note("one")
    path = f"/v1/me/messages/{await mail.add(content)}/raw"
    ranges = "bytes=" + ",".join(f"{number}-{number}" for number in range(10_000))

    with at_most_cpu_seconds(1):
        answer = await _download(mail, path, Range=ranges)

    assert (answer.status_code, answer.content) == (200, content)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 56, 57, 58, 76, 10_000])
async def test_an_attachment_comes_decoded_and_its_size_is_told_before(mail: Mail, size: int) -> None:
    content = os.urandom(size)
    id_ = await mail.add(_with_attachment(content))
    (listed,) = (await mail.get(f"/{id_}", view="full"))["attachments"]

    answer = await _download(mail, await _attachment_path(mail, id_))

    assert answer.content == content
    assert answer.headers["Content-Length"] == str(size)
    assert listed["size_bytes"] == size


@pytest.mark.parametrize(
    ("encoding", "body", "size"),
    [
        ("quoted-printable", "=C3=A9" * 1_000, 2_000),
        ("base64", "\r\n".join(["QUJD" * 18] * 100), 5_400),
        ("x-uuencode", "begin 644 a.bin\r\n#86)C\r\n`\r\nend", 3),
        ("7bit", "abc", 3),
    ],
)
async def test_the_size_of_an_attachment_is_exact_in_every_encoding(
    mail: Mail, encoding: str, body: str, size: int
) -> None:
    part = f"Content-Type: a/b; name=a.bin\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{body}"
    head = "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b\r\n"
    id_ = await mail.add(f"{head}{part}\r\n--b--\r\n".encode())

    (listed,) = (await mail.get(f"/{id_}", view="full"))["attachments"]
    answer = await _download(mail, f"/v1/me/messages/{id_}/attachments/{listed['id']}")

    assert (listed["size_bytes"], len(answer.content)) == (size, size)


def _winmail() -> bytes:
    attributes = ((1, 0x800C, b"The words\0"), (2, 0x9002, b""), (2, 0x8010, b"a.txt\0"), (2, 0x800F, b"inside"))
    return struct.pack("<IH", 0x223E9F78, 1) + b"".join(
        struct.pack("<BII", level, name, len(value)) + value + b"\0\0" for level, name, value in attributes
    )


async def _add_winmail(mail: Mail) -> str:
    head = b"Subject: s\r\nContent-Type: application/ms-tnef\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return await mail.add(head + base64.encodebytes(_winmail()).replace(b"\n", b"\r\n"))


async def test_a_reply_quotes_and_a_forward_carries_what_is_in_a_winmail_dat(mail: Mail) -> None:
    original = await _add_winmail(mail)
    drafts = {"mailbox_id": await mail.mailbox_id("Drafts")}
    shown = []
    for mode in ("reply", "forward"):
        body = {"mode": mode, "reply_to_message_id": original, "text": "See below"}
        made = await mail.client.post("/v1/me/messages", params=drafts, json=body)
        assert made.status_code == 201, made.text
        shown.append(await mail.get(f"/{made.json()['id']}", view="full"))

    reply, forward = shown

    assert "> The words" in reply["text"]
    assert "The words" in forward["text"]
    assert reply["attachments"] == []
    (carried,) = forward["attachments"]
    inside = await _download(mail, f"/v1/me/messages/{forward['id']}/attachments/{carried['id']}")
    assert (carried["filename"], inside.content) == ("a.txt", b"inside")


async def test_a_forward_carries_the_calendar_of_an_invitation_and_quotes_its_words(mail: Mail) -> None:
    event = b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Standup\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    original = await mail.add(b"Subject: s\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\n" + event)
    body = {"mode": "forward", "reply_to_message_id": original, "text": "Coming?"}
    drafts = {"mailbox_id": await mail.mailbox_id("Drafts")}

    made = (await mail.client.post("/v1/me/messages", params=drafts, json=body)).json()
    forward = await mail.get(f"/{made['id']}", view="full")

    assert "Standup" in forward["text"]
    assert [one["content_type"] for one in forward["attachments"]] == ["text/calendar"]
    assert forward["invitation"]["summary"] == "Standup"


async def test_a_winmail_dat_is_opened(mail: Mail) -> None:
    id_ = await _add_winmail(mail)

    shown = await mail.get(f"/{id_}", view="full")
    (attachment,) = shown["attachments"]
    inside = await _download(mail, f"/v1/me/messages/{id_}/attachments/{attachment['id']}")
    ranged = await mail.client.get(f"/v1/me/messages/{id_}/parts/{attachment['part']}", headers={"Range": "bytes=2-3"})

    assert (shown["text"], shown["preview"]) == ("The words", "The words")
    assert (attachment["filename"], attachment["size_bytes"], inside.content) == ("a.txt", 6, b"inside")
    assert (ranged.status_code, ranged.content) == (206, b"si")
    assert (await _download(mail, f"/v1/me/messages/{id_}/parts/1")).content == _winmail()


async def test_an_invitation_is_a_field_and_the_text_of_a_message_without_other_text(mail: Mail) -> None:
    event = (
        "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@x\r\nDTSTART:20261124T100000Z\r\n"
        "SUMMARY:Standup\r\nORGANIZER:mailto:ann@example.org\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    alone = await mail.add(f"Subject: s\r\nContent-Type: text/calendar\r\n\r\n{event}".encode())
    parts = f"--b\r\n\r\nCome!\r\n--b\r\nContent-Type: text/calendar\r\n\r\n{event}\r\n--b--\r\n"
    beside = await mail.add(f"Subject: s\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\n{parts}".encode())

    first, second = [await mail.get(f"/{id_}", view="full") for id_ in (alone, beside)]

    assert first["text"].startswith("Standup\n2026-11-24 10:00 UTC")
    assert second["text"].strip() == "Come!"
    for shown in (first, second):
        assert (shown["invitation"]["method"], shown["invitation"]["starts_at"]) == ("request", "2026-11-24T10:00:00Z")
        assert shown["invitation"]["organizer"] == {"name": "", "address": "ann@example.org"}
        assert [one["content_type"] for one in shown["attachments"]] == ["text/calendar"]


@pytest.mark.slow
async def test_a_large_attachment_streams_in_flat_memory(mail: Mail) -> None:
    content = os.urandom(1024 * 1024) * 12
    path = await _attachment_path(mail, await mail.add(_with_attachment(content)))
    sizes: list[int] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sizes.append(len(message.get("body", b"")))

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    headers = [(b"host", b"x"), (b"authorization", mail.client.headers["Authorization"].encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    tracemalloc.start()
    await mail.gateway.app(scope, receive, send)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert sum(sizes) == len(content)
    assert peak_bytes < 3 * 1024 * 1024
    part = await _download(mail, path, Range="bytes=12000000-12000099")
    assert part.content == content[12_000_000:12_000_100]


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ("C:\\x\\evil.exe", 'attachment; filename="evil.exe"'),
        ('a"b.txt', 'attachment; filename="a_b.txt"'),
        ("\u202egpj.exe", 'attachment; filename="gpj.exe"'),
        ("über.pdf", "attachment; filename=\"uber.pdf\"; filename*=UTF-8''%C3%BCber.pdf"),
    ],
)
async def test_downloads_have_harmless_names(mail: Mail, filename: str, shown: str) -> None:
    id_ = await mail.add(_with_attachment(b"x", filename))

    answer = await _download(mail, await _attachment_path(mail, id_))

    assert answer.headers["Content-Disposition"] == shown
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_downloads_of_html_are_never_shown_inline(mail: Mail) -> None:
    id_ = await mail.add(_with_attachment(b"<script>alert(1)</script>", "a.html", "text/html"))

    for path in (await _attachment_path(mail, id_), f"/v1/me/messages/{id_}/parts/2"):
        answer = await _download(mail, path)
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_an_odd_content_type_is_sent_as_bytes(mail: Mail) -> None:
    id_ = await mail.add(multipart(b"\r\nx", b'Content-Type: a/b;c="\x01"\r\nContent-Disposition: attachment\r\n\r\nx'))

    answer = await _download(mail, await _attachment_path(mail, id_))

    assert answer.headers["Content-Type"] in ("application/octet-stream", "a/b")


async def test_parts_are_read_by_their_section(mail: Mail) -> None:
    inner = multipart(b"Content-Type: text/plain\r\n\r\none", b"Content-Type: text/html\r\n\r\n<p>two</p>")
    id_ = await mail.add(multipart(b"\r\nouter", b"Content-Type: message/rfc822\r\n\r\n" + inner))

    assert (await _download(mail, f"/v1/me/messages/{id_}/parts/1")).content == b"outer"
    assert (await _download(mail, f"/v1/me/messages/{id_}/parts/2.1")).content == b"one"
    assert (await _download(mail, f"/v1/me/messages/{id_}/parts/2")).content == inner


@pytest.mark.parametrize("below", ["parts/7", "parts/x", "parts/HEADER", "parts/1%0d%0aX", "attachments/att_x"])
async def test_a_part_that_is_not_there_is_not_found(mail: Mail, below: str) -> None:
    id_ = await mail.add(note("one"))

    answer = await _download(mail, f"/v1/me/messages/{id_}/{below}")

    assert (answer.status_code, answer.json()["code"]) == (404, "part_not_found")


async def test_headers_come_in_order_and_decoded(mail: Mail) -> None:
    id_ = await mail.add(note("one", "x", "X-Two: =?utf-8?q?K=C3=A4se?=", "x-two: b\r\n folded"))

    headers = await mail.get(f"/{id_}/headers")

    assert [one["name"] for one in headers["items"]] == ["From", "To", "Subject", "Message-ID", "X-Two", "x-two"]
    assert [one["value"] for one in headers["items"]][-2:] == ["Käse", "b folded"]


async def test_the_body_is_a_safe_fragment_with_its_own_pictures(mail: Mail) -> None:
    html = (
        b'<p onclick="x()">Hi <a href="javascript:x">l</a><img src="cid:p@x"><img src="https://far.test/t.png"></p>'
        b"<form><input></form><base href='https://evil.test/'>"
    )
    picture = b"Content-Type: image/png\r\nContent-ID: <p@x>\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    id_ = await mail.add(
        multipart(b"Content-Type: text/html\r\n\r\n" + html, picture + base64.b64encode(b"PNG"), subtype="related")
    )
    path = f"/v1/me/messages/{id_}/body"

    blocked = await _download(mail, path)

    assert blocked.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "img-src data:;" in blocked.headers["Content-Security-Policy"]
    assert "sandbox" in blocked.headers["Content-Security-Policy"]
    assert 'src="data:image/png;base64,UE5H"' in blocked.text
    for forbidden in ("onclick", "javascript", "<form", "<input", "<base", ' src="https://far.test'):
        assert forbidden not in blocked.text
    left = await _download(mail, f"{path}?images=inline")
    assert 'src="https://far.test/t.png"' in left.text
    full = await mail.get(f"/{id_}", view="full")
    attachment = full["attachments"][0]
    assert attachment["content_id"] == "p@x"
    assert "/v1/links/t" in full["html"]


class _NoSecondPart(LocalBackend):
    """Returns the structure of a message, but not its second part."""

    async def read_part(self, message: Message, section: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        if section == "2":
            raise PartNotFound
        async for piece in super().read_part(message, section, span):
            yield piece

    async def read_parts(self, message: Message, sections: Sequence[str]) -> Mapping[str, bytes]:
        if "2" in sections:
            raise PartNotFound
        return await super().read_parts(message, sections)


async def test_a_part_that_the_mail_server_does_not_give_is_left_out_and_said_to_be(mail: Mail) -> None:
    harness = mail.gateway.harness
    mail.gateway.backends.given[mail.account_id] = _NoSecondPart(
        mail.account_id, harness.store, harness.reader, harness.database, harness.bus
    )
    id_ = await mail.add(multipart(b"\r\nfirst", b"\r\nsecond"))

    full = await mail.get(f"/{id_}", view="full")

    assert (full["text"], full["problems"]) == ("first", ["part 2: the mail server does not return it"])
    assert (await _download(mail, f"/v1/me/messages/{id_}/body?format=text")).text == "first"


async def test_a_body_of_text_is_escaped_as_html(mail: Mail) -> None:
    """Text as HTML is text."""
    id_ = await mail.add(note("one", "<script>alert(1)</script>"))

    assert "&lt;script&gt;" in (await _download(mail, f"/v1/me/messages/{id_}/body")).text
    text = await _download(mail, f"/v1/me/messages/{id_}/body?format=text")
    assert text.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert text.text == "<script>alert(1)</script>\n"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.eml")), ids=lambda path: path.stem)
async def test_every_message_of_the_corpus_can_be_shown(mail: Mail, path: Path) -> None:
    content = await asyncio.to_thread(path.read_bytes)
    id_ = await mail.add(content)

    shown: dict[str, Any] = await mail.get(f"/{id_}", view="full")

    assert isinstance(shown["text"], str)
    for attachment in shown["attachments"]:
        answer = await _download(mail, f"/v1/me/messages/{id_}/attachments/{attachment['id']}")
        assert answer.status_code == 200
        assert abs(len(answer.content) - attachment["size_bytes"]) <= max(3, len(answer.content) // 10)
    assert (await _download(mail, f"/v1/me/messages/{id_}/body")).status_code == 200
    assert (await _download(mail, f"/v1/me/messages/{id_}/raw")).content == content


async def test_the_head_of_a_large_attachment_tells_its_exact_length(mail: Mail) -> None:
    content = os.urandom(2_000_000)
    path = await _attachment_path(mail, await mail.add(_with_attachment(content)))

    head = await mail.client.head(path)

    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))


async def test_quoted_history_is_folded_where_it_is_asked_for(mail: Mail) -> None:
    html = '<p>New</p><blockquote type="cite">old</blockquote>'
    rich = await mail.add(note("rich", html, "Content-Type: text/html"))
    plain = await mail.add(note("plain", "New\n> old\n"))

    for id_ in (rich, plain):
        path = f"/v1/me/messages/{id_}/body"
        kept = await mail.client.get(path)
        folded = await mail.client.get(path, params={"quotes": "fold"})
        assert "<details>" not in kept.text
        assert "<details><summary>" in folded.text
        assert kept.headers["ETag"] != folded.headers["ETag"]
