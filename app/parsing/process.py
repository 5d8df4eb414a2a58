"""The gateway's side of a parsing process: start, call, kill."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import pickle
import socket
import subprocess
import sys
from enum import Enum
from typing import Any

from app.parsing.child import LENGTH, Job

PIECE_BYTES = 256 * 1024
RESULT_LIMIT_BYTES = 256 * 1024 * 1024
_POLL_SECONDS = 0.005

_COMMAND = [sys.executable, "-P", "-m", "postgate.parsing.child"]


class ProcessFailed(Exception):
    """The process ended, or its function raised. `reason` is for the log."""

    def __init__(self, reason: str, *, is_alive: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_alive = is_alive


class ParserProcess:
    """A child process that runs one job at a time. After an interrupted call, it can only be killed."""

    def __init__(
        self, process: subprocess.Popen[bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.is_last = False
        """Whether the child ends after its last result."""

    @classmethod
    async def start(cls, memory_bytes: int, cpu_seconds: int) -> ParserProcess:
        """Start a child. Call it in the main thread: the child ends with the thread that started it."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - a fixed program; starting it does not block
                _COMMAND + [str(number) for number in (theirs.fileno(), memory_bytes, cpu_seconds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"},
                cwd="/",
                start_new_session=True,
            )
        try:
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=PIECE_BYTES)
        except BaseException:
            ours.close()
            process.kill()
            process.wait()  # a killed process ends within milliseconds
            raise
        return cls(process, reader, writer)

    async def call(self, job: Job) -> Any:
        """The result of a job. Raises ProcessFailed."""
        contents: list[pickle.PickleBuffer] = []
        request = pickle.dumps(_with_buffers(job), protocol=5, buffer_callback=contents.append)
        try:
            await self._send(memoryview(request))
            self._writer.write(LENGTH.pack(len(contents)))
            for content in contents:
                await self._send(content.raw())
            (size,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            if size > RESULT_LIMIT_BYTES:
                raise ProcessFailed("result too large")
            answer = await self._reader.readexactly(size)
        except (OSError, asyncio.IncompleteReadError):
            raise ProcessFailed("process ended") from None
        self.is_last = bool(answer[0])
        return self._value(answer)

    async def _send(self, content: memoryview) -> None:
        """Send the length of some bytes, then the bytes in pieces, so that other tasks can run in between."""
        self._writer.write(LENGTH.pack(len(content)))
        for start in range(0, len(content), PIECE_BYTES):
            self._writer.write(content[start : start + PIECE_BYTES])
            await self._writer.drain()
            await asyncio.sleep(0)

    def _value(self, answer: bytes) -> Any:
        is_result, value = _Results(io.BytesIO(memoryview(answer)[1:])).load()
        if not is_result:
            raise ProcessFailed(str(value), is_alive=value != "MemoryError")
        return value

    async def kill(self) -> None:
        """Kill the child process, and wait until it has ended."""
        self._process.kill()
        self._writer.transport.abort()
        while self._process.poll() is None:  # noqa: ASYNC110 - a killed process ends within milliseconds
            await asyncio.sleep(_POLL_SECONDS)


def _with_buffers(job: Job) -> Job:
    """The job with large arguments as buffers, which are sent without a copy."""
    work, args, kwargs = job
    return work, tuple(map(_as_buffer, args)), kwargs


def _as_buffer(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_buffer(item) for key, item in value.items()}
    return pickle.PickleBuffer(value) if type(value) is bytes and len(value) > PIECE_BYTES else value


class _Results(pickle.Unpickler):
    """Unpickles only plain values, so that a compromised parser cannot run code in the gateway."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("app.") and "." not in name:
            type_ = super().find_class(module, name)
            if isinstance(type_, type) and (dataclasses.is_dataclass(type_) or issubclass(type_, Enum | tuple)):
                return type_
        raise ProcessFailed(f"result of {module}.{name}")
