"""Pictures of a body: inside it, as links, or fetched in the reader's place."""

from __future__ import annotations

import base64
import re

import httpx2
import pytest
from app.errors import ImageNotAvailable
from app.mail.types import AccountId
from app.services.reading.content import INLINE_LIMIT_BYTES
from app.services.reading.remote_images import RemoteImage, RemoteImages

from tests.unit.api.mail import Mail, multipart, note

GIF = b"GIF89a"
FAR = "https://far.test/t.gif?reader=me&x=1"


def _picture(name: str, content: bytes) -> bytes:
    head = f"Content-Type: image/gif\r\nContent-ID: <{name}@x>\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    return head.encode() + base64.encodebytes(content).replace(b"\n", b"\r\n")


async def _body(mail: Mail, id_: str, images: str) -> httpx2.Response:
    answer = await mail.client.get(f"/v1/me/messages/{id_}/body", params={"images": images})
    assert answer.status_code == 200
    return answer


def _sources(html: str) -> list[str]:
    return [source.replace("&amp;", "&") for source in re.findall(r'<img[^>]* src="([^"]*)"', html)]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs of images that were fetched; each is a GIF, but for those that have no name."""
    urls: list[str] = []

    async def get(_: RemoteImages, account_id: AccountId, url: str) -> RemoteImage:
        assert account_id
        urls.append(url)
        if url.endswith("/"):
            raise ImageNotAvailable("The server of the image did not answer in time")
        return RemoteImage("image/gif", GIF)

    monkeypatch.setattr(RemoteImages, "get", get)
    return urls


@pytest.mark.parametrize("images", ["block", "inline", "proxy"])
async def test_two_megabytes_of_pictures_are_inside_the_body_and_the_others_are_links(mail: Mail, images: str) -> None:
    half = GIF + bytes(INLINE_LIMIT_BYTES // 2)
    html = b'Content-Type: text/html\r\n\r\n<img src="cid:a@x"><img src="cid:b@x"><img src="cid:c@x">'
    parts = (_picture("a", half), _picture("b", half), _picture("c", GIF))
    id_ = await mail.add(multipart(html, *parts, subtype="related"))

    body = await _body(mail, id_, images)

    begins = [source[:22] for source in _sources(body.text)]
    assert begins == ["data:image/gif;base64,", "http://postgate.test/v", "data:image/gif;base64,"]
    assert "img-src data: http://postgate.test/v1/links/" in body.headers["content-security-policy"]
    opened = await mail.gateway.client(None).get(_sources(body.text)[1])
    assert (opened.content, opened.headers["content-type"]) == (half, "image/gif")


async def test_images_from_elsewhere_are_fetched_in_the_readers_place(mail: Mail, fetched: list[str]) -> None:
    html = f'<img src="{FAR}"><img src="//far.test/a\n.gif"><img src="HTTP://far.test/b.gif">'
    id_ = await mail.add(note("x", html, "Content-Type: text/html"))
    anyone = mail.gateway.client(None)

    body = await _body(mail, id_, "proxy")
    opened = [await anyone.get(source) for source in _sources(body.text)]

    assert fetched == [FAR, "https://far.test/a.gif", "HTTP://far.test/b.gif"]
    assert "far.test" not in body.text
    assert " http:;" not in body.headers["content-security-policy"]
    assert " https:;" not in body.headers["content-security-policy"]
    for answer in opened:
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, GIF, "image/gif")
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"


async def test_an_image_that_cannot_be_fetched_is_a_problem(mail: Mail, fetched: list[str]) -> None:
    id_ = await mail.add(note("x", '<img src="https://far.test/">', "Content-Type: text/html"))
    [source] = _sources((await _body(mail, id_, "proxy")).text)

    refused = await mail.gateway.client(None).get(source)

    assert (refused.status_code, refused.json()["code"]) == (502, "image_not_available")
    assert fetched == ["https://far.test/"]


async def test_nobody_makes_the_fetcher_fetch_what_no_message_holds(mail: Mail, fetched: list[str]) -> None:
    id_ = await mail.add(note("x", f'<img src="{FAR}">', "Content-Type: text/html"))
    [source] = _sources((await _body(mail, id_, "proxy")).text)
    other = base64.urlsafe_b64encode(b"https://other.test/a.gif").rstrip(b"=").decode()

    refused = await mail.gateway.client(None).get(re.sub(r"~i[^~]+~", f"~i{other}~", source))

    assert (refused.status_code, fetched) == (404, [])


async def test_an_image_whose_url_is_too_long_stays_blocked(mail: Mail, fetched: list[str]) -> None:
    html = f'<img src="https://far.test/{"a" * 2_000}">'
    body = await _body(mail, await mail.add(note("x", html, "Content-Type: text/html")), "proxy")

    assert (_sources(body.text), "data-blocked-src" in body.text, fetched) == ([], True, [])


async def test_bodies_with_and_without_remote_images_are_kept_apart(mail: Mail, fetched: list[str]) -> None:
    id_ = await mail.add(note("x", f'<img src="{FAR}">', "Content-Type: text/html"))

    bodies = {images: await _body(mail, id_, images) for images in ("block", "inline", "proxy", "block")}

    assert len({body.headers["etag"] for body in bodies.values()}) == 3
    assert _sources(bodies["block"].text) == []
    assert _sources(bodies["inline"].text) == [FAR]
    assert fetched == []


@pytest.mark.parametrize(
    ("method", "path", "is_body"),
    [
        ("GET", "/messages/{id}", False),
        ("GET", "/messages", False),
        ("GET", "/changes", False),
        ("POST", "/messages/search", True),
        ("POST", "/messages/batch-get", True),
        ("POST", "/v1/search", True),
    ],
)
async def test_html_in_any_answer_has_its_images_and_quotes_as_asked(
    mail: Mail, fetched: list[str], method: str, path: str, is_body: bool
) -> None:
    state = (await mail.client.get("/v1/me/messages")).json()["state"]
    html = f'<img src="{FAR}"><blockquote type="cite">Earlier</blockquote>'
    id_ = await mail.add(note("x", html, "Content-Type: text/html"))
    fields = {"view": "full", "images": "proxy", "quotes": "fold"}
    url = path if path.startswith("/v1/") else f"/v1/me{path.format(id=id_)}"
    if is_body:
        answer = await mail.client.post(url, json={**fields, **({"message_ids": [id_]} if "batch" in path else {})})
    else:
        answer = await mail.client.get(url, params={**fields, **({"since": state} if "changes" in path else {})})

    assert answer.status_code == 200, answer.text
    [shown] = re.findall(r'"html":"((?:[^"\\]|\\.)*)"', answer.text)
    [source] = _sources(shown.replace('\\"', '"'))
    opened = await mail.gateway.client(None).get(source)
    assert (opened.status_code, opened.content, fetched) == (200, GIF, [FAR])
    assert "<details>" in shown


async def test_one_message_with_images_inline_holds_its_own_pictures_and_several_have_links(mail: Mail) -> None:
    html = b'Content-Type: text/html\r\n\r\n<img src="cid:a@x">'
    id_ = await mail.add(multipart(html, _picture("a", GIF), subtype="related"))
    query = {"view": "full", "images": "inline"}

    single = (await mail.client.get(f"/v1/me/messages/{id_}", params=query)).json()
    listed = (await mail.client.get("/v1/me/messages", params=query)).json()["items"]
    got = (await mail.client.post("/v1/me/messages/batch-get", json={**query, "message_ids": [id_]})).json()

    assert [source[:22] for source in _sources(single["html"])] == ["data:image/gif;base64,"]
    for several in (listed[0]["html"], got["results"][0]["message"]["html"]):
        assert [source[:22] for source in _sources(several)] == ["http://postgate.test/v"]
