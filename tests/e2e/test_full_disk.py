"""A disk that fills up for real: writes are refused for now, nothing is lost, and all heals once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.load import Books, Client, ImapClient, LmtpClient, ReadingClient, SendingClient, SmtpClient, faults
from tests.servers.postgate import Postgate
from tests.servers.smtp_sink import SmtpSink

DISK_MB = 48
HEAL_SECONDS = 30.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing more fits; what was written, to be removed."""
    filling = folder / "filling"
    with filling.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filling


def ready(gateway: Postgate) -> tuple[int, str]:
    with gateway.client() as client:
        answer = client.get("/v1/health/ready")
    return answer.status_code, answer.text


def wait_for(gateway: Postgate, status: int) -> str:
    """What the readiness probe says once it answers with a status."""
    deadline = time.monotonic() + HEAL_SECONDS
    while (answer := ready(gateway))[0] != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer[1]


def test_a_full_disk_refuses_writes_for_now_loses_nothing_and_heals(
    small_disk: Path, demo_data: Path, smtp_sink: SmtpSink
) -> None:
    smtp_sink.requires_auth = False
    shutil.copytree(demo_data, small_disk / "data")
    gateway = Postgate(small_disk, SMARTHOST=f"127.0.0.1:{smtp_sink.port}", SMARTHOST_SECURITY="none")
    books = Books("full")
    try:
        gateway.start()
        pid = gateway.pid
        kinds = (SmtpClient, LmtpClient, ImapClient, SendingClient, ReadingClient)
        clients: list[Client] = [kind(gateway, books) for kind in kinds]
        for client in clients:
            client.start()
        time.sleep(1)
        assert ready(gateway)[0] == 200

        filling = fill(small_disk)
        problem = wait_for(gateway, 503)
        deadline = time.monotonic() + HEAL_SECONDS
        while not refused_all(books) and time.monotonic() < deadline:
            time.sleep(0.2)
        filling.unlink()
        wait_for(gateway, 200)
        before = [client.done for client in clients]
        deadline = time.monotonic() + HEAL_SECONDS
        while any(client.done <= done for client, done in zip(clients, before, strict=True)):
            assert time.monotonic() < deadline, [client.done for client in clients]
            time.sleep(0.2)
        for client in clients:
            client.finish()

        assert refused_all(books), books.refusals
        assert "full" in problem
        assert (gateway.is_running, gateway.pid) == (True, pid)
        assert books.lost == []
        assert faults(gateway, books, smtp_sink) == []
    finally:
        gateway.kill()


def refused_all(books: Books) -> bool:
    """Whether each kind of writer was refused."""
    return all(any(said.startswith(kind) for said in books.refusals) for kind in ("smtp", "lmtp", "imap", "send"))
