"""Descriptors are divided so that each kind of client has its own."""

from __future__ import annotations

import pytest
from app.runtime.descriptors import divide


@pytest.mark.parametrize("descriptors", [256, 1024, 4096, 20_000, 1 << 20])
def test_the_shares_leave_descriptors_for_files_and_the_database(descriptors: int) -> None:
    shares = divide(descriptors)

    assert shares.mail + shares.authenticated + shares.unauthenticated <= descriptors - 64
    assert shares.unauthenticated < shares.authenticated == shares.mail
