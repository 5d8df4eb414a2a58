from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def umask_of_the_test_run() -> Iterator[None]:
    """A command narrows the umask of its process, which here is that of all later tests and their servers."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
