"""Signed links: what opens one resource without a header, and what does not."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx2
import pytest
from app.mail.identifiers import now_ms
from app.security.vault import Vault
from app.services.access import links
from app.services.access.callers import Caller, Scope, TokenKind

from tests.gateway import Gateway, open_gateway
from tests.unit.api.mail import Mail, multipart, note, open_mail

ADMIN = Caller(token_id="tok_admin", kind=TokenKind.SERVER, scopes=frozenset(Scope))  # type: ignore[arg-type]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4


def _message(content: bytes, filename: str, content_type: str) -> bytes:
    message = EmailMessage()
    message["Subject"] = "With attachment"
    message.set_content("See attachment")
    main, _, sub = content_type.partition("/")
    message.add_attachment(content, maintype=main, subtype=sub, filename=filename)
    return message.as_bytes().replace(b"\n", b"\r\n")


async def _attached(mail: Mail, content: bytes = PNG, name: str = "a.png", kind: str = "image/png") -> dict[str, Any]:
    """The body of a request for a link to the attachment of a new message, and the message's id."""
    id_ = await mail.add(_message(content, name, kind))
    [attachment] = (await mail.get(f"/{id_}", view="full"))["attachments"]
    return {"id": id_, "attachment_id": attachment["id"], "part": attachment["part"]}


async def _link(mail: Mail, id_: str, client: httpx2.AsyncClient | None = None, **order: Any) -> dict[str, str]:
    made = await (client or mail.client).post(f"/v1/me/messages/{id_}/links", json=order)
    assert made.status_code == 201, made.text
    link: dict[str, str] = made.json()
    return link


async def _image_link(mail: Mail, client: httpx2.AsyncClient | None = None, **order: Any) -> str:
    attached = await _attached(mail)
    return (await _link(mail, attached["id"], client, attachment_id=attached["attachment_id"], **order))["url"]


def _anyone(mail: Mail) -> httpx2.AsyncClient:
    return mail.gateway.client(None)


async def test_a_link_opens_an_attachment_a_part_and_the_raw_message_without_a_header(mail: Mail) -> None:
    attached = await _attached(mail)
    raw = (await mail.client.get(f"/v1/me/messages/{attached['id']}/raw")).content

    for order, content in (
        ({"attachment_id": attached["attachment_id"]}, PNG),
        ({"part": attached["part"]}, PNG),
        ({"raw": True}, raw),
        ({"raw": True, "part": None, "attachment_id": None}, raw),
    ):
        opened = await _anyone(mail).get((await _link(mail, attached["id"], **order))["url"])
        assert (opened.status_code, opened.content) == (200, content)


async def test_a_link_begins_as_the_caller_came_or_with_the_public_url(tmp_path: Path) -> None:
    for public_url, begin in ((None, "http://postgate.test"), ("https://mail.test/", "https://mail.test")):
        folder = tmp_path / str(bool(public_url))
        folder.mkdir()
        async with open_gateway(folder, public_url=public_url) as gateway:
            mail = await open_mail(gateway)
            url = (await _link(mail, await mail.add(note("x")), raw=True))["url"]
            assert url.startswith(f"{begin}/v1/links/")
            assert len(url) < 250


async def test_a_link_says_when_it_ends_and_never_outlives_its_token(mail: Mail) -> None:
    id_ = await mail.add(note("x"))

    link = await _link(mail, id_, raw=True)
    long = await _link(mail, id_, raw=True, expires_in_seconds=86_400)

    ends = [datetime.fromisoformat(each["expires_at"]) for each in (link, long)]
    seconds = [(end - datetime.now(UTC)).total_seconds() for end in ends]
    assert 290 <= seconds[0] <= 300
    assert 890 <= seconds[1] <= 900  # the token's own end


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"raw": False},
        {"raw": True, "part": "1"},
        {"attachment_id": "att_x", "part": "1"},
        {"raw": True, "expires_in_seconds": 86_401},
        {"raw": True, "expires_in_seconds": 0},
        {"raw": True, "expires_in_seconds": "300"},
        {"raw": True, "expires_in": 300},
    ],
)
async def test_an_order_that_names_not_exactly_one_resource_is_refused(mail: Mail, order: dict[str, Any]) -> None:
    refused = await mail.client.post(f"/v1/me/messages/{await mail.add(note('x'))}/links", json=order)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


async def test_no_link_is_made_to_what_is_not_there_or_not_seen(mail: Mail) -> None:
    id_ = await mail.add(note("x"), "Archive")
    other = await open_mail(mail.gateway, "other@demo.test")
    inbox = await mail.mailbox_id()
    narrow = mail.gateway.client(await mail.gateway.token(mail.account_id, mailbox_ids=(inbox,)))
    push = mail.gateway.client(await mail.gateway.token(mail.account_id, scopes=(Scope.PUSH,)))

    for client, order, status in (
        (mail.client, {"part": "7"}, 404),
        (mail.client, {"attachment_id": "att_x"}, 404),
        (other.client, {"raw": True}, 404),
        (narrow, {"raw": True}, 404),
        (push, {"raw": True}, 403),
    ):
        assert (await client.post(f"/v1/me/messages/{id_}/links", json=order)).status_code == status


async def test_a_link_answers_ranges_and_heads(mail: Mail) -> None:
    url, anyone = await _image_link(mail), _anyone(mail)

    part = await anyone.get(url, headers={"Range": "bytes=8-11"})
    head = await anyone.head(url)
    beyond = await anyone.get(url, headers={"Range": "bytes=999999-"})

    assert (part.status_code, part.content, part.headers["content-range"]) == (206, PNG[8:12], f"bytes 8-11/{len(PNG)}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(PNG)))
    assert beyond.status_code == 416


async def test_what_a_link_opens_can_do_nothing_and_is_for_one_browser(mail: Mail) -> None:
    opened = await _anyone(mail).get(await _image_link(mail), headers={"Accept-Encoding": "gzip"})

    assert opened.headers["referrer-policy"] == "no-referrer"
    assert opened.headers["cross-origin-resource-policy"] == "cross-origin"
    assert opened.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert opened.headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r"private, max-age=\d{1,4}", opened.headers["cache-control"])
    assert "content-encoding" not in opened.headers


@pytest.mark.parametrize(
    ("kind", "name", "disposition", "shown_as"),
    [
        ("image/png", "a.png", "inline", "image/png"),
        ("image/jpg", "a.jpg", "inline", "image/jpeg"),
        ("image/svg+xml", "a.svg", "attachment", "image/svg+xml"),
        ("image/tiff", "a.tif", "attachment", "image/tiff"),
        ("text/html", "a.html", "attachment", "text/html"),
        ("application/xhtml+xml", "a.png", "attachment", "application/xhtml+xml"),
        ("application/pdf", "a.pdf", "attachment", "application/pdf"),
        ("application/octet-stream", "a.gif", "inline", "image/gif"),
    ],
)
async def test_anything_but_a_raster_image_is_an_attachment(
    mail: Mail, kind: str, name: str, disposition: str, shown_as: str
) -> None:
    attached = await _attached(mail, b"<script>alert(1)</script>", name, kind)
    url = (await _link(mail, attached["id"], attachment_id=attached["attachment_id"]))["url"]

    opened, saved = await _anyone(mail).get(url), await _anyone(mail).get(url, params={"download": "true"})

    assert opened.headers["content-disposition"].partition(";")[0] == disposition
    assert opened.headers["content-type"].partition(";")[0] == shown_as
    assert saved.headers["content-disposition"] == f'attachment; filename="{name}"'


async def test_a_link_that_was_changed_in_any_place_opens_nothing(mail: Mail) -> None:
    url = await _image_link(mail)
    begin, _, text = url.partition("/v1/links/")

    for place in range(len(text)):
        changed = text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]
        refused = await _anyone(mail).get(f"{begin}/v1/links/{changed}")
        if place < len(text) - 1:  # the last character of base64 has bits that stand for nothing
            assert (refused.status_code, refused.json()["code"]) == (404, "link_not_found"), place
    for changed in ("", text[:-1], text + "x", "." + text, "x", "~~~~.", "ü" * 10, text.replace("~", "%7E", 1) + "0"):
        assert (await _anyone(mail).get(f"{begin}/v1/links/{changed}")).status_code in (404, 405)


async def test_the_signature_of_one_message_opens_no_other(mail: Mail) -> None:
    attached, other = await _attached(mail), await _attached(mail, b"secret", "b.bin", "application/octet-stream")
    url = (await _link(mail, attached["id"], part=attached["part"]))["url"]

    refused = await _anyone(mail).get(url.replace(attached["id"], other["id"]))

    assert refused.status_code == 404
    assert b"secret" not in refused.content


async def test_a_link_of_another_install_opens_nothing(mail: Mail) -> None:
    url = await _image_link(mail)
    forged = links.Links(mail.gateway.harness.database, Vault([bytes(32)]))
    place = url.rpartition("/")[2].rpartition(".")[0]

    refused = await _anyone(mail).get(f"/v1/links/{place}.{links._signature(forged._keys[0], place)}")

    assert refused.status_code == 404


async def test_a_link_expires(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    url = await _image_link(mail, expires_in_seconds=60)

    monkeypatch.setattr(links, "now_ms", lambda: now_ms() + 61_000)
    refused = await _anyone(mail).get(url)

    assert (refused.status_code, refused.json()["code"]) == (410, "link_expired")


async def test_a_link_ends_at_once_with_the_token_that_made_it(mail: Mail) -> None:
    secret = await mail.gateway.token(mail.account_id)
    url, anyone = await _image_link(mail, mail.gateway.client(secret)), _anyone(mail)
    assert (await anyone.get(url)).status_code == 200
    caller = await mail.gateway.services.tokens.authenticate(secret, None)

    await mail.gateway.services.tokens.revoke(caller.token_id, ADMIN)

    refused = await anyone.get(url)
    assert (refused.status_code, refused.json()["code"]) == (410, "link_expired")
    assert (await anyone.get(await _image_link(mail))).status_code == 200  # of another token


async def _sign_in(gateway: Gateway) -> dict[str, str]:
    made = await gateway.client(None).post("/v1/session", json={"email": "me@demo.test", "password": "secret"})
    assert made.status_code == 201
    session: dict[str, str] = made.json()
    return session


async def test_a_link_of_a_sign_in_outlives_its_access_token_and_ends_with_the_sign_out(mail: Mail) -> None:
    gateway, anyone = mail.gateway, _anyone(mail)
    session = await _sign_in(gateway)
    client = gateway.client(session["access_token"])
    url = await _image_link(mail, client, expires_in_seconds=86_400)
    access = await gateway.services.tokens.authenticate(session["access_token"], None)
    renewed = await anyone.post("/v1/session/refresh", json={"refresh_token": session["refresh_token"]})
    await gateway.services.tokens.revoke(access.token_id, ADMIN)

    assert (await anyone.get(url)).status_code == 200

    await gateway.client(renewed.json()["access_token"]).delete("/v1/session")
    assert (await anyone.get(url)).status_code == 410


async def test_a_link_of_a_token_that_a_sign_in_made_has_that_tokens_rights(mail: Mail) -> None:
    client = mail.gateway.client((await _sign_in(mail.gateway))["access_token"])
    order = {"kind": "account", "scopes": ["mail.read"], "account_ids": [mail.account_id]}
    child = (await client.post("/v1/tokens", json=order)).json()
    url = await _image_link(mail, mail.gateway.client(child["token"]))

    await mail.gateway.services.tokens.revoke(child["id"], ADMIN)

    assert (await _anyone(mail).get(url)).status_code == 410


async def test_a_link_has_the_networks_of_its_token(mail: Mail) -> None:
    secret = await mail.gateway.token(mail.account_id, networks=("127.0.0.0/8",))
    url = await _image_link(mail, mail.gateway.client(secret))
    opened = mail.gateway.services.links
    text = url.rpartition("/")[2]

    assert (await _anyone(mail).get(url)).status_code == 200
    for address in ("198.51.100.7", "::1", None):
        with pytest.raises(Exception, match="may not be used from this network"):
            await opened.open(text, address)


async def test_a_link_sees_what_its_token_sees_today(mail: Mail) -> None:
    inbox = await mail.mailbox_id()
    narrow = mail.gateway.client(await mail.gateway.token(mail.account_id, mailbox_ids=(inbox,)))
    attached = await _attached(mail)
    url = (await _link(mail, attached["id"], narrow, attachment_id=attached["attachment_id"]))["url"]
    assert (await _anyone(mail).get(url)).status_code == 200

    archive = await mail.mailbox_id("Archive")
    await mail.client.patch(f"/v1/me/messages/{attached['id']}", json={"mailbox_id": archive})

    assert (await _anyone(mail).get(url)).status_code == 404


async def test_a_link_to_a_message_that_was_deleted_opens_nothing(mail: Mail) -> None:
    attached = await _attached(mail)
    url = (await _link(mail, attached["id"], raw=True))["url"]

    await mail.client.delete(f"/v1/me/messages/{attached['id']}", params={"permanent": "true"})

    assert (await _anyone(mail).get(url)).status_code == 404


async def test_what_a_link_opens_counts_in_the_rate_of_its_token(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, requests_per_minute=10) as gateway:
        mail = await open_mail(gateway)
        url = (await _link(mail, await mail.add(note("x")), raw=True))["url"]

        answers = [(await _anyone(mail).get(url)).status_code for _ in range(12)]

    assert (answers[0], answers[-1]) == (200, 429)


async def test_pictures_in_the_full_view_are_links_that_open_without_a_header(mail: Mail) -> None:
    html = b'Content-Type: text/html\r\n\r\n<p>x</p><img src="cid:p@x">'
    picture = b"Content-Type: image/gif\r\nContent-ID: <p@x>\r\n\r\nGIF89a"
    id_ = await mail.add(multipart(html, picture, subtype="related"))

    shown = [
        (await mail.get(f"/{id_}", view="full"))["html"],
        (await mail.get(f"/{id_}", view="full", fields="html"))["html"],
        (await mail.get("", view="full"))["items"][0]["html"],
        (await mail.client.post("/v1/me/messages/batch-get", json={"message_ids": [id_], "view": "full"})).json(),
    ]

    for html_shown in map(str, shown):
        [url] = re.findall(r'src="(http://postgate.test/v1/links/[^"]+)"', html_shown)
        opened = await _anyone(mail).get(url)
        assert (opened.status_code, opened.content, opened.headers["content-type"]) == (200, b"GIF89a", "image/gif")


async def test_links_in_a_view_are_each_callers_own_and_stay_the_same_for_an_hour(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = b'Content-Type: text/html\r\n\r\n<img src="cid:p@x">'
    picture = b"Content-Type: image/gif\r\nContent-ID: <p@x>\r\n\r\nGIF89a"
    id_ = await mail.add(multipart(html, picture, subtype="related"))
    other = mail.gateway.client(await mail.gateway.token(mail.account_id))
    hour = now_ms() // 3_600_000 * 3_600_000

    async def shown(client: httpx2.AsyncClient, after_ms: int) -> str:
        monkeypatch.setattr(links, "now_ms", lambda: hour + after_ms)
        answer = await client.get(f"/v1/me/messages/{id_}?view=full")
        html_shown: str = answer.json()["html"]
        return html_shown

    first, later, next_hour = [await shown(mail.client, after) for after in (1_000, 3_599_000, 3_601_000)]
    assert first == later != next_hour
    assert await shown(other, 1_000) != first


async def test_a_link_in_a_view_changes_no_etag(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    html = b'Content-Type: text/html\r\n\r\n<img src="cid:p@x">'
    picture = b"Content-Type: image/gif\r\nContent-ID: <p@x>\r\n\r\nGIF89a"
    path = f"/v1/me/messages/{await mail.add(multipart(html, picture, subtype='related'))}?view=full"
    first = await mail.client.get(path)

    monkeypatch.setattr(links, "now_ms", lambda: now_ms() + 7_200_000)

    second = await mail.client.get(path)
    assert first.json()["html"] != second.json()["html"]
    assert first.headers["etag"] == second.headers["etag"]


async def test_no_text_of_a_message_becomes_a_link(mail: Mail) -> None:
    html = '<img src="/v1/links/p1"><a href="https://evil.test/?/v1/links/p1">x</a>/00112233445566778899aabbccddeeff-p1'
    id_ = await mail.add(note("x", html, "Content-Type: text/html"))

    shown = (await mail.get(f"/{id_}", view="full"))["html"]

    assert mail.account_id not in shown


async def test_an_answer_that_holds_links_is_never_compressed(mail: Mail) -> None:
    html = b"Content-Type: text/html\r\n\r\n<img src='cid:p@x'>" + b"<p>word</p>" * 1_000
    picture = b"Content-Type: image/gif\r\nContent-ID: <p@x>\r\n\r\nGIF89a"
    id_ = await mail.add(multipart(html, picture, subtype="related"))
    plain = await mail.add(note("x", "word " * 5_000))

    answers = [
        await mail.client.get(f"/v1/me/messages/{each}?view=full", headers={"Accept-Encoding": "gzip"})
        for each in (id_, plain)
    ]

    assert ["content-encoding" in answer.headers for answer in answers] == [False, True]
