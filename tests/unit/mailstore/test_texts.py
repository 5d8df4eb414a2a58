from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from app.db.session import Statement, prepare
from app.mailstore import texts

from tests.harness import open_harness


@pytest.mark.parametrize(
    "statement", [texts._UNINDEXED, texts._COUNT_UNINDEXED, texts._AWAITED, texts._KEPT_HERE], ids=range(4)
)
async def test_what_is_not_in_the_full_text_index_is_found_without_looking_at_what_is(
    tmp_path: Path, statement: Statement
) -> None:
    async with open_harness(tmp_path):
        prepared = prepare(statement, "sqlite")
        with closing(sqlite3.connect(tmp_path / "postgate.sqlite3")) as database:
            plan = database.execute(f"EXPLAIN QUERY PLAN {prepared.text}", [None] * len(prepared.order)).fetchall()

    assert any("INDEX message_unindexed" in step[3] for step in plan), plan
