"""A running Postgate."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.servers.postgate import Postgate, running_postgate
from tests.servers.tls import TlsFiles


@pytest.fixture
def postgate(tmp_path: Path, demo_data: Path) -> Iterator[Postgate]:
    """The demo, of this test alone."""
    shutil.copytree(demo_data, tmp_path / "data")
    with running_postgate(tmp_path) as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path, demo_data: Path, tls: TlsFiles) -> Iterator[Postgate]:
    """The demo, of this test alone, that trusts the test authority's mail servers."""
    shutil.copytree(demo_data, tmp_path / "data")
    with running_postgate(tmp_path, TLS_CA_FILE=str(tls.authority)) as server:
        yield server


@pytest.fixture
def client(gateway: Postgate) -> Iterator[httpx2.Client]:
    """A client of `gateway` with the server key."""
    with gateway.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_postgate(tmp_path_factory: pytest.TempPathFactory, demo_data: Path) -> Iterator[Postgate]:
    """One demo for the tests of a module that don't mind each other."""
    folder = tmp_path_factory.mktemp("postgate")
    shutil.copytree(demo_data, folder / "data")
    with running_postgate(folder) as server:
        yield server


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a demo that was started once, and stopped when it had nothing left to do: to be copied.

    All test processes of a run share it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            _make_demo(folder)
            (folder / "made").touch()
    return folder / "data"


def _make_demo(folder: Path) -> None:
    server = Postgate(folder)
    server.start()
    try:
        wait_for_texts(folder / "data")
    finally:
        server.stop()


def wait_for_texts(data: Path, seconds: float = 60.0) -> None:
    """Wait until the full-text index holds all messages."""
    deadline = time.monotonic() + seconds
    with closing(sqlite3.connect(f"file:{data / 'postgate.sqlite3'}?mode=ro", uri=True)) as database:
        while database.execute("SELECT count(*) FROM message WHERE text_state <> 1").fetchone() != (0,):
            assert time.monotonic() < deadline, "the texts of the demo's mail are not read"
            time.sleep(0.05)
