"""A disk that fills up for real: writes are refused for now, nothing is lost, and all heals once there is room."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol

import pytest

from tests.e2e.test_first_start import status
from tests.load import Books, Client, ImapClient, LmtpClient, ReadingClient, SendingClient, SmtpClient, faults
from tests.servers.forked import ForkedPostgate
from tests.servers.postgate import Postgate
from tests.servers.postgres import Postgres
from tests.servers.process import free_port
from tests.servers.smtp_sink import SmtpSink

DISK_MB = 48
HEAL_SECONDS = 30.0


class Disk(Protocol):
    """A disk that a test can fill."""

    folder: Path
    complaint: str
    """What the readiness probe says of it while it is full."""

    def fill(self, gateway: Postgate) -> None: ...

    def free(self, gateway: Postgate) -> None: ...


@dataclass
class SmallDisk:
    """A file system of its own, filled by a file."""

    folder: Path
    complaint: str = "full"

    def fill(self, gateway: Postgate | None = None) -> None:
        """Write until nothing more fits."""
        with self._filling.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self, gateway: Postgate | None = None) -> None:
        self._filling.unlink()

    @property
    def _filling(self) -> Path:
        return self.folder / "filling"


@dataclass
class LimitedFiles:
    """The system refuses to write any more of any file to the process (RLIMIT_FSIZE), which needs no rights."""

    folder: Path
    complaint: str = "fail"

    def fill(self, gateway: Postgate) -> None:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def free(self, gateway: Postgate) -> None:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A folder on a small file system of its own; skips where none can be mounted."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0755", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=["small disk", "limited files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "limited files":
        yield LimitedFiles(tmp_path)
        return
    with mounted(tmp_path / "disk") as folder:
        yield SmallDisk(folder)


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
    disk: Disk, demo_data: Path, smtp_sink: SmtpSink
) -> None:
    smtp_sink.requires_auth = False
    shutil.copytree(demo_data, disk.folder / "data")
    gateway = Postgate(disk.folder, SMARTHOST=f"127.0.0.1:{smtp_sink.port}", SMARTHOST_SECURITY="none")
    try:
        gateway.start()
        survive(gateway, disk, smtp_sink)
    finally:
        gateway.kill()


def test_a_full_disk_of_postgresql_refuses_writes_for_now_loses_nothing_and_heals(
    postgres: Postgres, tmp_path: Path, smtp_sink: SmtpSink
) -> None:
    smtp_sink.requires_auth = False
    smarthost = {"SMARTHOST": f"127.0.0.1:{smtp_sink.port}", "SMARTHOST_SECURITY": "none"}
    reachable = Path(mkdtemp(prefix="space-"))  # PostgreSQL runs as another user, who may not enter `tmp_path`
    reachable.chmod(0o755)
    with mounted(reachable) as folder, postgres.database_in(folder / "space") as database:
        gateway = Postgate(tmp_path, DATABASE_URL=postgres.url(database), **smarthost)
        try:
            gateway.start()
            survive(gateway, SmallDisk(folder), smtp_sink)
        finally:
            gateway.kill()


def test_a_start_on_a_full_disk_waits_alive_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    port = free_port()
    settings = {f"POSTGATE_{name}_PORT": "0" for name in ("IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")}
    with mounted(tmp_path / "disk") as folder:
        settings |= {"POSTGATE_HTTP_PORT": str(port), "POSTGATE_DATA_DIR": str(folder / "data")}
        disk = SmallDisk(folder)
        disk.fill()
        process = ForkedPostgate(
            ["serve"],
            os.environ | settings,
            is_ready=lambda: status(port, "live") == 200,
            log=tmp_path / "postgate.log",
        )
        process.start()
        try:
            assert status(port, "ready") == 503
            disk.free()
            deadline = time.monotonic() + HEAL_SECONDS
            while status(port, "ready") != 200:
                assert process.is_running, process.log_tail
                assert time.monotonic() < deadline, process.log_tail
                time.sleep(0.2)
        finally:
            process.kill()


def survive(gateway: Postgate, disk: Disk, sink: SmtpSink) -> None:
    """Fill a disk under load until each kind of writer was refused, and free it again."""
    books, pid = Books("full"), gateway.pid
    kinds = (SmtpClient, LmtpClient, ImapClient, SendingClient, ReadingClient)
    clients: list[Client] = [kind(gateway, books) for kind in kinds]
    for client in clients:
        client.start()
    time.sleep(1)
    assert ready(gateway)[0] == 200

    disk.fill(gateway)
    try:
        problem = wait_for(gateway, 503)
        deadline = time.monotonic() + HEAL_SECONDS
        while not refused_all(books) and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        disk.free(gateway)
    wait_for(gateway, 200)
    before = [client.done for client in clients]
    deadline = time.monotonic() + HEAL_SECONDS
    while any(client.done <= done for client, done in zip(clients, before, strict=True)):
        assert time.monotonic() < deadline, [client.done for client in clients]
        time.sleep(0.2)
    for client in clients:
        client.finish()

    assert refused_all(books), books.refusals
    assert disk.complaint in problem
    assert (gateway.is_running, gateway.pid) == (True, pid)
    assert books.lost == []
    assert faults(gateway, books, sink) == []


def refused_all(books: Books) -> bool:
    """Whether each kind of writer was refused."""
    return all(any(said.startswith(kind) for said in books.refusals) for kind in ("smtp", "lmtp", "imap", "send"))
