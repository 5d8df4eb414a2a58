"""HTTP to hosts that others name goes to checked addresses alone, and is bounded."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from app.errors import AddressNotAllowed, GatewayError, InvalidRequest, ServerProtocolError, Unreachable
from app.security.http import MAX_BODY_BYTES, check_url, client_options
from app.security.netguard import NetGuard

LOOPBACK = NetGuard.of(["127.0.0.0/8"])


@asynccontextmanager
async def serving(answer: bytes, *, repeat: int = 1) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers every request with these bytes; its port, and the requests that came."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        try:
            for _ in range(repeat):
                writer.write(answer)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


async def get(url: str, guard: NetGuard) -> httpx2.Response:
    async with httpx2.AsyncClient(**client_options(guard, ssl.create_default_context())) as client:
        return await client.get(url)


async def _loopback(host: str) -> list[str]:
    return ["127.0.0.1"]


async def test_a_host_inside_is_asked_nothing() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, asked):
        with pytest.raises(AddressNotAllowed):
            await get(f"http://127.0.0.1:{port}/", NetGuard())
        with pytest.raises(AddressNotAllowed):
            await get(f"http://localhost:{port}/", NetGuard(resolver=_loopback))

    assert asked == []


async def test_a_name_is_connected_to_at_the_address_that_was_checked() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (port, asked):
        answer = await get(f"http://mail.test:{port}/x", NetGuard(LOOPBACK.allowed, resolver=_loopback))

    assert answer.text == "ok"
    assert f"Host: mail.test:{port}".encode() in asked[0]


async def test_a_redirect_is_not_followed() -> None:
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(redirect) as (port, asked):
        answer = await get(f"http://127.0.0.1:{port}/", LOOPBACK)

    assert (answer.status_code, len(asked)) == (302, 1)


async def test_an_endless_answer_is_cut() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 65536
    async with serving(endless, repeat=MAX_BODY_BYTES // 65536 + 50) as (port, _):
        with pytest.raises(ServerProtocolError):
            await get(f"http://127.0.0.1:{port}/", LOOPBACK)


async def test_an_answer_that_would_be_unpacked_is_not_taken() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxxx") as (port, _):
        with pytest.raises(ServerProtocolError):
            await get(f"http://127.0.0.1:{port}/", LOOPBACK)


@pytest.mark.parametrize("answer", [b"220 smtp.test ESMTP\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
async def test_what_is_no_answer_is_an_error_of_ours(answer: bytes) -> None:
    async with serving(answer) as (port, _):
        with pytest.raises(GatewayError):
            await get(f"http://127.0.0.1:{port}/", LOOPBACK)


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await get("http://127.0.0.1:1/", LOOPBACK)


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https://a b/",
        "https://user@93.184.216.34/",
        "https://93.184.216.34:99999/",
        "https://[::1",
        "file:///etc/passwd",
        "http://93.184.216.34/",
        "https://exämple.test/",
        "https://93.184.216.34/" + "x" * 3000,
        "https://93.184.216.34/\r\nHost: x",
    ],
)
async def test_what_is_no_https_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        await check_url(url, LOOPBACK)


@pytest.mark.parametrize(
    "url", ["https://93.184.216.34/token", "https://93.184.216.34:8443/t?x=1", "http://127.0.0.1/"]
)
async def test_a_url_may_be_https_or_in_a_network_that_the_install_names(url: str) -> None:
    await check_url(url, LOOPBACK)
