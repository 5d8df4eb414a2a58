"""Images from elsewhere: fetched from public addresses alone, raster alone, bounded in bytes and seconds."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from app.errors import ImageNotAvailable
from app.mail.types import AccountId
from app.security.netguard import NetGuard
from app.services.reading import remote_images
from app.services.reading.remote_images import MAX_BYTES, OF_HOST_AT_ONCE, RemoteImages, raster_type

LOOPBACK = NetGuard.of(["127.0.0.1/32"])
ANN, BOB = AccountId("acc_ann"), AccountId("acc_bob")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
Serve = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A web server on loopback; its URL, and the heads of the requests that came."""
    asked: list[bytes] = []
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            await serve(asked[-1], writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", asked
    finally:
        listening.close()
        for task in tasks:
            task.cancel()


def answering(content: bytes, status: str = "200 OK", *headers: str) -> Serve:
    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()

    return serve


def images(guard: NetGuard = LOOPBACK) -> RemoteImages:
    return RemoteImages(guard, ssl.create_default_context())


async def test_an_image_is_fetched_once_and_kept_for_everybody() -> None:
    async with server(answering(PNG, "200 OK", "Content-Type: text/html")) as (url, asked):
        fetcher = images()
        found = [await fetcher.get(account_id, f"{url}/a.png") for account_id in (ANN, ANN, BOB)]

    assert [(image.media_type, image.content) for image in found] == [("image/png", PNG)] * 3
    assert len(asked) == 1


async def test_the_server_learns_nothing_of_the_reader() -> None:
    async with server(answering(PNG, "200 OK", "Set-Cookie: seen=1")) as (url, asked):
        fetcher = images()
        await fetcher.get(ANN, f"{url}/a?x=1#fragment")
        await fetcher.get(ANN, f"{url}/b".replace("//", "//user:secret@"))

    for request in asked:
        text = request.decode().lower()
        for word in ("cookie", "referer", "authorization", "origin", "accept-language", "postgate", "python", "httpx"):
            assert word not in text
        assert "user-agent: mozilla/5.0" in text
    assert asked[0].startswith(b"GET /a?x=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "content",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b'<?xml version="1.0"?><svg></svg>',
        b"<!DOCTYPE html><p>hello hello hello</p>",
        b"%PDF-1.7 and so on and so on",
        b"II*\x00 a TIFF that no browser shows",
        b"",
        b"x",
    ],
)
async def test_what_is_no_raster_image_is_refused_whatever_it_is_called(content: bytes) -> None:
    async with server(answering(content, "200 OK", "Content-Type: image/png")) as (url, _):
        with pytest.raises(ImageNotAvailable):
            await images().get(ANN, f"{url}/a.png")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"\x00\x00\x00\x20ftypavif", "image/avif"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"<svg", None),
    ],
)
def test_the_type_of_an_image_is_told_by_its_first_bytes(content: bytes, kind: str | None) -> None:
    assert raster_type(content) == kind


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://2130706434:{port}/",
        "http://0x7f000002:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "//127.0.0.2:{port}/",
    ],
)
async def test_no_image_is_fetched_from_inside_neither_at_first_nor_by_a_redirect(target: str) -> None:
    async def elsewhere(_: str) -> list[str]:
        return ["127.0.0.3"]

    async def redirect(request: bytes, writer: asyncio.StreamWriter) -> None:
        port = writer.get_extra_info("sockname")[1]
        if request.startswith(b"GET /begin "):
            await answering(b"", "302 Found", f"Location: {target.format(port=port)}")(request, writer)
        else:
            await answering(PNG)(request, writer)

    guard = NetGuard(LOOPBACK.allowed, resolver=elsewhere)
    async with server(redirect) as (url, asked):
        for first in (f"{url}/begin", target.format(port=url.rpartition(":")[2])):
            with pytest.raises(ImageNotAvailable):
                await images(guard).get(ANN, first)

    assert len(asked) == 1


async def test_a_name_that_is_rebound_is_connected_to_at_no_address_that_was_not_checked() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])
    asked_names: list[str] = []

    async def rebinding(host: str) -> list[str]:
        asked_names.append(host)
        return next(answers)

    guard = NetGuard(LOOPBACK.allowed, resolver=rebinding)
    async with server(answering(PNG)) as (url, asked):
        named = url.replace("127.0.0.1", "evil.test")
        assert (await images(guard).get(ANN, f"{named}/a")).content == PNG
        with pytest.raises(ImageNotAvailable):
            await images(guard).get(ANN, f"{named}/b")

    assert (asked_names, len(asked)) == (["evil.test"] * 2, 1)


async def test_three_redirects_are_followed_and_no_more() -> None:
    async def count_down(request: bytes, writer: asyncio.StreamWriter) -> None:
        left = int(request.split()[1][1:])
        if left:
            await answering(b"", "307 Temporary Redirect", f"Location: /{left - 1}")(request, writer)
        else:
            await answering(PNG)(request, writer)

    async with server(count_down) as (url, asked):
        assert (await images().get(ANN, f"{url}/3")).content == PNG
        with pytest.raises(ImageNotAvailable):
            await images().get(ANN, f"{url}/4")

    assert len(asked) == 8


async def test_no_more_than_the_limit_is_read_of_a_huge_image() -> None:
    sent = 0

    async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + PNG)
        while not writer.is_closing():
            writer.write(bytes(64 * 1024))
            sent += 64 * 1024
            await writer.drain()
            await asyncio.sleep(0)

    async with server(endless) as (url, _):
        with pytest.raises(ImageNotAvailable):
            await images().get(ANN, f"{url}/a")

    assert sent < 4 * MAX_BYTES


async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with server(answering(PNG, "200 OK", "Content-Encoding: gzip")) as (url, _):
        with pytest.raises(ImageNotAvailable):
            await images().get(ANN, f"{url}/a")


async def test_a_server_that_hangs_is_given_up_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_images, "SECONDS", 1.0)

    all_hang = asyncio.Event()

    async def hang(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        if len(asked) == OF_HOST_AT_ONCE:
            all_hang.set()
        await asyncio.Event().wait()

    async with server(hang) as (slow, asked), server(answering(PNG)) as (good, _):
        fetcher = images(NetGuard(LOOPBACK.allowed, resolver=_loopback))
        hanging = [asyncio.create_task(fetcher.get(ANN, f"{slow}/{number}")) for number in range(30)]
        await all_hang.wait()
        answers = [await fetcher.get(each, f"{good.replace('127.0.0.1', 'good.test')}/{each}") for each in (ANN, BOB)]
        still_hanging = sum(not task.done() for task in hanging)
        held = len(asked)
        ends = await asyncio.gather(*hanging, return_exceptions=True)

    assert [image.content for image in answers] == [PNG, PNG]
    assert (still_hanging, held) == (30, OF_HOST_AT_ONCE)
    assert {type(end) for end in ends} == {ImageNotAvailable}


async def _loopback(_: str) -> list[str]:
    return ["127.0.0.1"]
