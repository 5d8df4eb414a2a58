from __future__ import annotations

from contextlib import closing
from hashlib import sha256
from typing import Any

import httpx2
import pytest
from app.mail.types import SEEN
from app.services.access.callers import Scope
from app.services.changing.imports import MEMORY_BYTES, Spool

from tests.gateway import Gateway, open_gateway
from tests.unit.api.mail import EVERYTHING, Mail, multipart, note, open_mail

RAW = "message/rfc822"


async def _import(mail: Mail, content: bytes, kind: str = RAW, **query: Any) -> httpx2.Response:
    headers = {"Content-Type": kind} | ({"Idempotency-Key": query.pop("key")} if "key" in query else {})
    parameters = {"mailbox_id": await mail.mailbox_id(), **query}
    return await mail.client.post("/v1/me/messages", content=content, params=parameters, headers=headers)


async def _raw(mail: Mail, id_: str) -> bytes:
    return (await mail.client.get(f"/v1/me/messages/{id_}/raw")).content


async def test_an_imported_message_is_kept_byte_for_byte(mail: Mail) -> None:
    content = note("Old letter", "Umlauts: \x80")

    answer = await _import(mail, content, keywords="$seen,Work", received_at="2001-02-03T04:05:06Z")

    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v1/accounts/{mail.account_id}/messages/{body['id']}"
    assert answer.headers["Postgate-State"] == (await mail.get())["state"]
    assert (body["subject"], body["keywords"]) == ("Old letter", ["$seen", "work"])
    assert body["received_at"] == "2001-02-03T04:05:06Z"
    assert await _raw(mail, body["id"]) == content
    stored = await mail.gateway.harness.reader.messages.message(mail.account_id, body["id"])
    assert stored.flags == {SEEN, "Work"}


@pytest.mark.parametrize("piece_bytes", [1, 100], ids=["byte by byte", "at once"])
@pytest.mark.parametrize(
    ("content", "stored"),
    [
        (b"Subject: a\n\nb\nc\n", b"Subject: a\r\n\r\nb\r\nc\r\n"),
        (b"Subject: a\r\n\nb\nc\r\n", b"Subject: a\r\n\r\nb\r\nc\r\n"),
        (b"Subject: a\r\rb\rc\r", b"Subject: a\r\n\r\nb\r\nc\r\n"),
        (b"Subject: a\r\n\r\nb=\r\r\nc\rd\n", b"Subject: a\r\n\r\nb=\r\r\nc\rd\r\n"),
    ],
    ids=["LF", "LF and CRLF", "CR", "CR as content"],
)
async def test_lines_end_in_crlf_however_they_came_and_wherever_the_pieces_are_cut(
    mail: Mail, content: bytes, stored: bytes, piece_bytes: int
) -> None:
    async def pieces() -> Any:
        for at in range(0, len(content), piece_bytes):
            yield content[at : at + piece_bytes]

    parameters = {"mailbox_id": await mail.mailbox_id()}
    answer = await mail.client.post(
        "/v1/me/messages", content=pieces(), params=parameters, headers={"Content-Type": RAW}
    )

    assert await _raw(mail, answer.json()["id"]) == stored


async def test_a_large_message_whose_lines_end_in_cr_alone_is_stored_with_crlf() -> None:
    line = b"x" * 75 + b"\r"
    spool = Spool(10 * MEMORY_BYTES)

    async def pieces() -> Any:
        for _ in range(50):
            yield line * 1_000

    with closing(spool):
        await spool.take(pieces())
        stored = b"".join([piece async for piece in spool.pieces()])

    assert stored == line.replace(b"\r", b"\r\n") * 50_000
    assert (spool.size_bytes, spool.hash) == (len(stored), sha256(stored).hexdigest())


@pytest.mark.parametrize("content", [b"no header at all", b"\x00\xff" * 50, b"\r\n\r\n", b": : :\r\n\r\nx"])
async def test_mail_that_cannot_be_parsed_is_taken_too(mail: Mail, content: bytes) -> None:
    answer = await _import(mail, content)

    assert answer.status_code == 201
    assert await _raw(mail, answer.json()["id"]) == content
    await mail.get(f"/{answer.json()['id']}", view="full")


async def test_a_large_message_is_taken_by_way_of_the_disk(mail: Mail) -> None:
    content = note("large", "0123456789abcde\r\n" * 200_000)

    answer = await _import(mail, content)

    assert answer.json()["size_bytes"] == len(content)
    assert await _raw(mail, answer.json()["id"]) == content


async def test_a_message_as_json_is_written_first(mail: Mail) -> None:
    answer = await mail.client.post(
        "/v1/me/messages",
        params={"mailbox_id": await mail.mailbox_id("Drafts"), "keywords": "$draft"},
        json={"to": [{"name": "Bob", "address": "bob@x.test"}], "subject": "Käse", "text": "Hallo"},
    )

    assert answer.status_code == 201, answer.text
    body = await mail.get(f"/{answer.json()['id']}", view="full")
    assert (body["subject"], body["text"].strip(), body["keywords"]) == ("Käse", "Hallo", ["$draft"])
    assert body["from"][0]["address"] == "me@demo.test"
    assert body["to"] == [{"name": "Bob", "address": "bob@x.test"}]


async def test_an_import_with_its_key_is_made_once(mail: Mail) -> None:
    content = note("once")

    first = await _import(mail, content, key='"k 1"'.replace(" ", "-"))
    again = await _import(mail, content, key='"k-1"')

    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await mail.subjects() == ["once"]
    other = await _import(mail, note("other"), key='"k-1"')
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("content", "kind", "query", "status", "place"),
    [
        (b"", RAW, {}, 422, {"pointer": ""}),
        (b"x", "text/plain", {}, 415, None),
        (b"x", RAW, {"keywords": "a b"}, 422, {"parameter": "keywords"}),
        (b"x", RAW, {"keywords": "\\Seen"}, 422, {"parameter": "keywords"}),
        (b"x", RAW, {"received_at": "then"}, 422, {"parameter": "received_at"}),
        (b"x", RAW, {"colour": "red"}, 422, {"parameter": "colour"}),
        (b"x", RAW, {"mailbox_id": "a b"}, 422, {"parameter": "mailbox_id"}),
        (b"x", RAW, {"mailbox_id": "mbx_none"}, 404, None),
        (b"{", "application/json", {}, 400, {"pointer": ""}),
        (b'{"colour": 1}', "application/json", {}, 422, {"pointer": "/colour"}),
        (b'{"subject": "a\\r\\nBcc: x"}', "application/json", {}, 422, {"pointer": "/subject"}),
    ],
)
async def test_an_import_that_makes_no_sense_names_its_fault(
    mail: Mail, content: bytes, kind: str, query: dict[str, str], status: int, place: dict[str, str] | None
) -> None:
    answer = await _import(mail, content, kind, **query)

    assert answer.status_code == status, answer.text
    if place is not None:
        assert place.items() <= answer.json()["errors"][0].items()
    assert await mail.subjects() == []


async def test_a_message_that_is_too_large_is_refused(tmp_path: Any) -> None:
    async with open_gateway(tmp_path, max_message_bytes=2_000) as gateway:
        mail = await open_mail(gateway)

        answer = await _import(mail, b"Subject: a\r\n\r\n" + b"x" * 3_000)

        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        assert await mail.subjects() == []


async def test_to_import_needs_the_right_to_change(gateway: Gateway, mail: Mail) -> None:
    reader = gateway.client(await gateway.token(mail.account_id, scopes=[Scope.MAIL_READ]))

    answer = await reader.post("/v1/me/messages", params={"mailbox_id": await mail.mailbox_id()}, json={"subject": "x"})

    assert answer.status_code == 403


async def test_idor_a_token_for_some_mailboxes_quotes_and_encloses_no_message_of_another(mail: Mail) -> None:
    attached = multipart(
        b"\r\nsecret", b"Content-Disposition: attachment; filename=a.txt\r\n\r\nsecret", subject="hidden"
    )
    hidden = await mail.add(attached, "Archive")
    (attachment,) = (await mail.get(f"/{hidden}", view="full"))["attachments"]
    inbox = await mail.mailbox_id()
    limited = mail.gateway.client(
        await mail.gateway.token(mail.account_id, scopes=[*EVERYTHING, Scope.MAIL_SEND], mailbox_ids=(inbox,))
    )
    to = {"to": [{"address": "bob@demo.test"}], "text": "x"}
    enclosing = {**to, "attachments": [{"message_id": hidden, "attachment_id": attachment["id"]}]}
    forwarding = {**to, "mode": "forward", "reply_to_message_id": hidden}

    for body in (enclosing, forwarding):
        written = await limited.post("/v1/me/messages", params={"mailbox_id": inbox}, json=body)
        sent = await limited.post("/v1/me/send", json=body)
        assert [(one.status_code, one.json()["code"]) for one in (written, sent)] == [(404, "message_not_found")] * 2
    filed = await limited.post("/v1/me/send", json={**to, "save_to": await mail.mailbox_id("Sent")})
    assert (filed.status_code, filed.json()["code"]) == (404, "mailbox_not_found")
    allowed = await mail.client.post("/v1/me/messages", params={"mailbox_id": inbox}, json=enclosing)
    assert allowed.status_code == 201, allowed.text
    copy = await mail.get(f"/{allowed.json()['id']}", view="full")
    assert [one["filename"] for one in copy["attachments"]] == ["a.txt"]


async def test_a_message_written_into_a_mailbox_keeps_its_bcc(mail: Mail) -> None:
    answer = await mail.client.post(
        "/v1/me/messages",
        params={"mailbox_id": await mail.mailbox_id("Drafts")},
        json={"to": [{"address": "bob@example.org"}], "bcc": [{"address": "eve@example.org"}], "text": "x"},
    )

    full = await mail.client.get(f"/v1/me/messages/{answer.json()['id']}", params={"view": "full"})
    assert full.json()["bcc"] == [{"name": "", "address": "eve@example.org"}]
