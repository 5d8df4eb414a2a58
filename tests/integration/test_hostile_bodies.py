"""What others notice of messages that take for ever to parse: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from app.parsing.pool import Limits, ParserPool
from app.services.reading import content as contents
from app.services.reading.content import Content

from tests.gateway import Gateway, open_gateway
from tests.unit.api.mail import Mail, note, open_mail

READS = 8
LARGE_MAIL = note("bomb", "x" * 100_000, "Content-Type: text/html")


def spin(*_: object) -> None:
    """A parser that never ends."""
    while True:
        pass


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - processes begin and end unseen
        await asyncio.sleep(0.02)


@asynccontextmanager
async def hostile_mail(folder: Path, limits: Limits) -> AsyncIterator[tuple[Mail, str, ParserPool]]:
    """An account with a message whose body takes for ever to parse: its id, and the pool that does."""
    async with open_gateway(folder) as gateway:
        pool = ParserPool(limits)
        gateway.services.content = Content(gateway.backends, gateway.harness.reader, pool)
        mail = await open_mail(gateway)
        try:
            yield mail, await mail.add(LARGE_MAIL), pool
        finally:
            await pool.close()


async def signed_in(gateway: Gateway, email: str, password: str) -> int:
    answer = await gateway.client(None).post("/v1/session", json={"email": email, "password": password})
    return answer.status_code


@pytest.fixture(autouse=True)
def _endless_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "render_with_pictures", spin)


async def test_a_sign_in_is_answered_while_hostile_bodies_are_read(tmp_path: Path) -> None:
    async with hostile_mail(tmp_path, Limits(seconds=60.0, cpu_seconds=60)) as (mail, first, pool):
        ids = [first, *[await mail.add(LARGE_MAIL) for _ in range(READS - 1)]]
        await mail.gateway.harness.add_account("ann@demo.test", "pass word")
        reads = [asyncio.create_task(mail.client.get(f"/v1/me/messages/{id_}/body")) for id_ in ids]
        await until(lambda: pool.running > 0)

        assert await signed_in(mail.gateway, "ann@demo.test", "pass word") == 201
        assert not any(read.done() for read in reads)
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        await until(lambda: (pool.running, pool.waiting) == (0, 0))


async def test_a_body_that_is_too_complex_is_shown_as_text_and_said_to_be(tmp_path: Path) -> None:
    async with hostile_mail(tmp_path, Limits(seconds=3.0)) as (mail, id_, _):
        shown = await mail.client.get(f"/v1/me/messages/{id_}/body")
        text = await mail.client.get(f"/v1/me/messages/{id_}/body", params={"format": "text"})

    assert shown.status_code == text.status_code == 200
    assert "the message is too complex to show" in shown.text
    assert text.text.startswith("[the message is too complex to show: this is the beginning of its text]\n\nxxx")


async def test_parsing_ends_when_its_client_has_left(tmp_path: Path) -> None:
    async with hostile_mail(tmp_path, Limits(seconds=60.0, cpu_seconds=60)) as (mail, id_, pool):
        gone = asyncio.Event()
        reading = asyncio.create_task(_get(mail, f"/v1/accounts/{mail.account_id}/messages/{id_}/body", gone))
        await until(lambda: pool.running > 0)
        gone.set()

        await reading
        await until(lambda: pool.running == 0)


async def test_one_who_leaves_takes_the_body_from_no_other(tmp_path: Path) -> None:
    async with hostile_mail(tmp_path, Limits(seconds=6.0)) as (mail, id_, pool):
        gone, path = asyncio.Event(), f"/v1/accounts/{mail.account_id}/messages/{id_}/body"
        leaving = asyncio.create_task(_get(mail, path, gone))
        staying = asyncio.create_task(mail.client.get(path))
        await until(lambda: pool.running > 0)
        gone.set()
        await leaving

        assert pool.running == 1
        assert (await staying).status_code == 200


async def test_another_account_reads_its_large_mail_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hostile_mail(tmp_path, Limits(seconds=60.0, cpu_seconds=60)) as (mail, id_, pool):
        other = await open_mail(mail.gateway, "other@demo.test")
        large = await other.add(note("large", "y" * 100_000))
        reads = [asyncio.create_task(mail.client.get(f"/v1/me/messages/{id_}/body")) for _ in range(READS)]
        await until(lambda: pool.running > 0)
        monkeypatch.undo()

        answer = await other.client.get(f"/v1/me/messages/{large}/body", params={"format": "text"})
        assert answer.text.startswith("yyy")
        assert not any(read.done() for read in reads)
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


async def _get(mail: Mail, path: str, gone: asyncio.Event) -> None:
    """A request by a client that closes its connection when `gone` is set."""
    sent = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> MutableMapping[str, Any]:
        if sent:
            return sent.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: MutableMapping[str, Any]) -> None:
        """Nobody reads it."""

    token = mail.client.headers["Authorization"]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"postgate.test"), (b"authorization", token.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("postgate.test", 80),
        "state": {},
    }
    await mail.gateway.app(scope, receive, send)
