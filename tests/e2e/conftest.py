"""A running Postgate."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
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
def shared_postgate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgate]:
    """One demo for the tests of a module that don't mind each other."""
    with running_postgate(tmp_path_factory.mktemp("postgate")) as server:
        yield server


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a demo that was started and stopped once: to be copied."""
    folder = tmp_path_factory.mktemp("demo")
    server = Postgate(folder)
    server.start()
    server.stop()
    return folder / "data"
