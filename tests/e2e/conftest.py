"""A running Postgate."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.postgate import Postgate


@pytest.fixture
def postgate(tmp_path: Path, demo_data: Path) -> Iterator[Postgate]:
    """The demo, of this test alone."""
    shutil.copytree(demo_data, tmp_path / "data")
    server = Postgate(tmp_path)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def shared_postgate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgate]:
    """One demo for the tests of a module that don't mind each other."""
    server = Postgate(tmp_path_factory.mktemp("postgate"))
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a demo that was started and stopped once: to be copied."""
    folder = tmp_path_factory.mktemp("demo")
    server = Postgate(folder)
    server.start()
    server.stop()
    return folder / "data"
