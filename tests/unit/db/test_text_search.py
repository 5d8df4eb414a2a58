from __future__ import annotations

import re
import sqlite3

import pytest
from app.db.text_search import TRIGRAMS_LIMIT, like_pattern, trigram_query

HOSTILE = ['" OR "a', "NEAR(a b)", "body: x", "a* AND b", "{header}: x", '"""', "-- x; DROP", "'; --", "^abc", "a\\_%"]


@pytest.mark.parametrize("term", HOSTILE)
def test_no_term_gets_out_of_its_quotes_in_a_full_text_query(term: str) -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE VIRTUAL TABLE t USING fts5(header, body, tokenize='trigram case_sensitive 1', detail=column)"
    )
    connection.executemany(
        "INSERT INTO t VALUES (?, ?)", [("other", f"x {term} y"), (f"x {term} y", "a"), ("abc", "b")]
    )

    def found(*fields: str) -> list[int]:
        query = trigram_query(term, fields)
        return [row[0] for row in connection.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rowid", [query])]

    assert found("header", "body") == [1, 2]
    assert found("header") == [2]
    assert found("body") == [1]
    assert re.fullmatch(r'\{body\} : \("(?:[^"]|"")+"(?: AND "(?:[^"]|"")+")*\)', trigram_query(term, ("body",)))
    connection.close()


def test_a_long_term_asks_for_so_many_trigrams_and_no_more() -> None:
    query = trigram_query("".join(chr(0x4E00 + number) for number in range(500)), ("body",))

    assert 8 <= query.count('"') / 2 <= TRIGRAMS_LIMIT


def test_a_pattern_holds_the_term_as_it_is() -> None:
    assert like_pattern("100%_\\") == "%100\\%\\_\\\\%"
