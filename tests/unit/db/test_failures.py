"""What the drivers raise, sorted: which errors say that the connection is gone."""

from __future__ import annotations

import asyncpg
import pytest
from app.db import failures
from app.errors import DatabaseUnavailable


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        asyncpg.AdminShutdownError(),
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.ProtocolError(),
    ],
)
def test_an_error_of_a_broken_connection_is_stale_and_means_that_the_database_is_unavailable(error: Exception) -> None:
    assert failures.is_stale(error)
    assert isinstance(failures.of_postgres(error), DatabaseUnavailable)


def test_a_deadline_that_passed_is_lost_and_not_tried_again_at_once() -> None:
    assert failures.is_lost(TimeoutError())
    assert not failures.is_stale(TimeoutError())


def test_a_fault_of_ours_is_not_translated() -> None:
    assert failures.of_postgres(asyncpg.UniqueViolationError()) is None
    assert failures.of_postgres(asyncpg.UndefinedTableError()) is None
