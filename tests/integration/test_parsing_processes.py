"""Parsing in real processes: what takes too long or too much is killed and replaced, and nothing is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from app.errors import TooComplex
from app.mailstore.content import read_content
from app.mime.searchable import searchable_in
from app.mime.structure import parse_structure
from app.parsing.jobs import SMALL_BYTES
from app.parsing.pool import Limits, ParserPool
from app.services.reading.rendering import render_body

LARGE = SMALL_BYTES + 1
MAIL = b"From: Ann <ann@a.example>\r\nSubject: Hi\r\nContent-Type: text/html\r\n\r\n<p>Hello <b>there</b></p>\r\n"


@asynccontextmanager
async def opened(**limits: object) -> AsyncIterator[ParserPool]:
    pool = ParserPool(Limits(**limits))  # type: ignore[arg-type]  # of Limits' own fields
    try:
        yield pool
    finally:
        await pool.close()


def parsers_of(pid: int) -> list[psutil.Process]:
    """The parsing processes of a gateway."""
    running = [child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in running if "postgate.parsing.child" in child.cmdline()]


def spin(_: str) -> None:
    while True:
        pass


def take_memory(size_bytes: int) -> int:
    return len(bytearray(size_bytes))


def pid(_: str) -> int:
    return os.getpid()


def end_hard(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def surroundings(_: str) -> tuple[dict[str, str], list[str]]:
    """The environment, and what the open descriptors are."""
    paths = [f"/proc/self/fd/{one}" for one in os.listdir("/proc/self/fd")]
    return dict(os.environ), [os.readlink(path) for path in paths if os.path.lexists(path)]


def foreign_value(_: str) -> object:
    return subprocess.Popen


async def test_a_message_is_read_in_a_process_as_it_is_read_here() -> None:
    structure = parse_structure(MAIL).structure
    async with opened() as pool:
        assert await pool.run("a", LARGE, read_content, MAIL, "blob") == read_content(MAIL, "blob")
        assert await pool.run("a", LARGE, searchable_in, MAIL) == searchable_in(MAIL)
        body = await pool.run("a", LARGE, render_body, structure, {"1": b"<p>Hi"}, None)
        assert body == render_body(structure, {"1": b"<p>Hi"}, None)


async def test_what_overruns_its_deadline_is_killed_and_replaced() -> None:
    async with opened(processes=1, seconds=5.0) as pool:
        first = await pool.run("a", LARGE, pid, "")
        with pytest.raises(TooComplex):
            await pool.run("a", LARGE, spin, "")

        second = await pool.run("a", LARGE, pid, "")
    assert first != second
    assert not psutil.pid_exists(first)
    assert not psutil.pid_exists(second)


async def test_what_takes_too_much_processor_time_is_ended_by_the_kernel() -> None:
    async with opened(processes=1, seconds=60.0, cpu_seconds=1) as pool:
        with pytest.raises(TooComplex):
            await pool.run("a", LARGE, spin, "")


async def test_what_takes_too_much_memory_ends_alone() -> None:
    async with opened(processes=1) as pool:
        with pytest.raises(TooComplex):
            await pool.run("a", LARGE, take_memory, 2 * 1024 * 1024 * 1024)

        assert await pool.run("a", LARGE, take_memory, 1024) == 1024


async def test_a_process_that_the_system_kills_is_replaced() -> None:
    async with opened(processes=1) as pool:
        with pytest.raises(TooComplex):
            await pool.run("a", LARGE, end_hard, "")

        assert await pool.run("a", LARGE, take_memory, 1) == 1


async def test_a_job_whose_client_has_left_is_killed() -> None:
    async with opened(processes=1) as pool:
        first = await pool.run("a", LARGE, pid, "")
        spinning = asyncio.create_task(pool.run("a", LARGE, spin, ""))
        await asyncio.sleep(0)
        spinning.cancel()

        assert await pool.run("a", LARGE, pid, "") != first


async def test_a_process_inherits_neither_secrets_nor_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGATE_MASTER_KEY", "secret")
    async with opened(processes=1) as pool:
        environment, descriptors = await pool.run("a", LARGE, surroundings, "")

    assert "POSTGATE_MASTER_KEY" not in environment
    assert len([one for one in descriptors if one.startswith("socket:")]) == 1


async def test_a_result_is_never_code() -> None:
    async with opened(processes=1) as pool:
        with pytest.raises(TooComplex):
            await pool.run("a", LARGE, foreign_value, "")


async def test_processes_without_work_are_ended() -> None:
    async with opened(processes=1, idle_seconds=0.0) as pool:
        first = await pool.run("a", LARGE, pid, "")
        while psutil.pid_exists(first):  # noqa: ASYNC110 - a process's end is no event of ours
            await asyncio.sleep(0.01)


async def test_closing_leaves_no_process_even_when_one_is_busy() -> None:
    pool = ParserPool(Limits(processes=1))
    await pool.run("a", LARGE, pid, "")
    spinning = asyncio.create_task(pool.run("a", LARGE, spin, ""))
    await asyncio.sleep(0)
    await pool.close()

    with pytest.raises(TooComplex):
        await spinning
    assert parsers_of(os.getpid()) == []


def test_a_process_ends_with_its_parent() -> None:
    """However the parent ends, and whatever the process does then."""
    program = """
        import asyncio
        from app.parsing.pool import Limits, ParserPool
        from tests.integration.test_parsing_processes import LARGE, pid, spin

        async def main():
            pool = ParserPool(Limits(processes=1, seconds=100.0, cpu_seconds=100))
            print(await pool.run("a", LARGE, pid, ""), flush=True)
            await pool.run("a", LARGE, spin, "")

        asyncio.run(main())
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()

    assert psutil.wait_procs([child], timeout=20)[1] == []
