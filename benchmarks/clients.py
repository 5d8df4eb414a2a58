"""Bare clients: they send prepared bytes and find the end of each answer, and do nothing else with it.

Each is one connection with one request under way. A refused request raises `Refused`, so that no figure is that of
an error.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import orjson

DEADLINE_SECONDS = 60.0
HOST = "127.0.0.1"


class Refused(RuntimeError):
    """A server did not do what it was asked; holds the start of its answer."""


class _Exchange(asyncio.Protocol):
    """Collects what comes until `is_complete` of it; `received_at` is when the last bytes came (perf_counter)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_complete: Callable[[bytearray], bool] = _never
        self._waiting: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport
        self._port = 0
        self.received_at = 0.0

    @classmethod
    async def connect(cls, port: int) -> Self:
        client = cls()
        await client._open(port)
        return client

    async def _open(self, port: int) -> None:
        self._port = port
        await asyncio.get_running_loop().create_connection(lambda: self, HOST, port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.received_at = time.perf_counter()
        self._buffer += data
        self._answer_if_complete()

    def connection_lost(self, _: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Refused(f"the connection was closed after {bytes(self._buffer[:200])!r}"))

    def close(self) -> None:
        self._transport.abort()

    def _answer_if_complete(self) -> None:
        if self._waiting is not None and not self._waiting.done() and self._is_complete(self._buffer):
            self._waiting.set_result(bytes(self._buffer))
            self._buffer.clear()

    async def _answer(self, request: bytes, is_complete: Callable[[bytearray], bool]) -> bytes:
        """Send, and return everything up to the end of the answer."""
        if self._transport.is_closing():
            raise Refused(f"the connection was closed after {bytes(self._buffer[:200])!r}")
        self._is_complete = is_complete
        self._waiting = asyncio.get_running_loop().create_future()
        if request:
            self._transport.write(request)
        self._answer_if_complete()
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._waiting


def _never(_: bytearray) -> bool:
    return False


class Imap(_Exchange):
    """IMAP without a parser: an answer ends with the line that begins with the tag."""

    _tag = b"A "

    @classmethod
    async def login(cls, port: int, user: str, password: str, mailbox: str = "INBOX") -> Self:
        """A connection with this mailbox selected."""
        client = await cls.connect(port)
        await client._answer(b"", _ends_a_line)
        await client.command(f'LOGIN "{user}" "{password}"')
        await client.command(f'SELECT "{mailbox}"')
        return client

    async def command(self, text: str | bytes) -> bytes:
        """The whole answer to a command. Raises Refused unless it is OK."""
        line = text.encode() if isinstance(text, str) else text
        answer = await self._answer(self._tag + line + b"\r\n", self._is_tagged_last)
        if not answer.startswith(self._tag + b"OK", answer.rfind(b"\n", 0, -2) + 1):
            raise Refused(f"{line[:100]!r}: {answer[-200:]!r}")
        return answer

    async def idle(self) -> None:
        """Begin to idle; what the server says from now on is for `pushed`."""
        await self._answer(self._tag + b"IDLE\r\n", lambda buffer: b"+ " in buffer and _ends_a_line(buffer))

    async def pushed(self, word: bytes) -> float:
        """When a line with this word came (perf_counter seconds)."""
        await self._answer(b"", lambda buffer: word in buffer and _ends_a_line(buffer))
        return self.received_at

    def _is_tagged_last(self, buffer: bytearray) -> bool:
        if not buffer.endswith(b"\r\n"):
            return False
        return buffer.startswith(self._tag, buffer.rfind(b"\n", 0, -2) + 1)


def _ends_a_line(buffer: bytearray) -> bool:
    return buffer.endswith(b"\r\n")


class Smtp(_Exchange):
    """SMTP and LMTP, a command at a time; an answer ends with a line of code and space."""

    async def greet(self, hello: str) -> None:
        await self._expect(b"", b"220")
        await self._expect(f"{hello} client.test\r\n".encode(), b"250")

    async def authenticate(self, user: str, password: str) -> None:
        secret = base64.b64encode(f"\0{user}\0{password}".encode())
        await self._expect(b"AUTH PLAIN " + secret + b"\r\n", b"235")

    async def send(self, sender: str, recipient: str, content: bytes) -> float:
        """One transaction; when its 250 came (perf_counter seconds). `content` has no line that begins with a dot."""
        await self._expect(f"MAIL FROM:<{sender}>\r\n".encode(), b"250")
        await self._expect(f"RCPT TO:<{recipient}>\r\n".encode(), b"250")
        await self._expect(b"DATA\r\n", b"354")
        await self._expect(content + b".\r\n", b"250")
        return self.received_at

    async def _expect(self, request: bytes, code: bytes) -> None:
        answer = await self._answer(request, _is_whole_reply)
        if not answer.startswith(code):
            raise Refused(f"{request[:100]!r}: {answer[:200]!r}")


def _is_whole_reply(buffer: bytearray) -> bool:
    if not buffer.endswith(b"\r\n"):
        return False
    at = buffer.rfind(b"\n", 0, -2) + 1
    return buffer[at + 3 : at + 4] == b" "


class Http(_Exchange):
    """HTTP/1.1 with keep-alive; `token` goes with each request."""

    token = ""

    @classmethod
    async def open(cls, port: int, token: str) -> Self:
        client = await cls.connect(port)
        client.token = token
        return client

    def prepare(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """The bytes of a request."""
        content = b"" if body is None else orjson.dumps(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {self.token}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        return head.encode() + b"\r\n" + content

    async def send(self, request: bytes) -> bytes:
        """The body of the answer to prepared bytes, on a new connection where the old one idled for too long.

        Raises Refused unless the status is 2xx.
        """
        if self._transport.is_closing():
            await self._open(self._port)
        answer = await self._answer(request, _is_whole_answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 2"):
            raise Refused(f"{request[:120]!r}: {head[:30]!r} {body[:300]!r}")
        return body

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of an answer."""
        return orjson.loads(await self.send(self.prepare(method, path, body)) or b"null")


def _is_whole_answer(buffer: bytearray) -> bool:
    """By Content-Length; a chunked answer ends with the empty chunk."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(buffer[:end]).lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        return len(buffer) - end - 4 >= int(head[at + 17 :].split(b"\r\n", 1)[0])
    if b"\r\ntransfer-encoding: chunked" in head:
        return buffer.endswith(b"\r\n0\r\n\r\n")
    return True
