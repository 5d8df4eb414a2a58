"""The table of problems is complete, and what is made from it is never behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import app
import pytest
from app.errors import GatewayError
from app.problems import PROBLEMS, SECTIONS, Problem
from app.problems.page import errors_page

ROOT = Path(__file__).parents[3]
ROWS = list(PROBLEMS.values())


def _classes(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _classes(below)


def test_every_row_belongs_to_an_error_and_every_code_has_one_row() -> None:
    for module in walk_packages(app.__path__, "app."):
        if module.name not in ("app.main", "app.problems.page"):
            import_module(module.name)
    raised = {kind.code for kind in _classes(GatewayError) if kind.__module__.startswith("app.")}

    assert raised == set(PROBLEMS)
    assert sum(len(rows) for rows in SECTIONS.values()) == len(PROBLEMS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_a_row_has_an_error_status_and_sentences(row: Problem) -> None:
    assert 400 <= row.status < 600
    assert all(text.endswith(".") for text in (row.when, row.why, row.what_to_do))
    if row.fix is not None:
        assert re.fullmatch(r"[A-Z][^\n]+\.", row.fix)
        assert ". " not in row.fix, "one sentence"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_a_mail_program_retries_what_a_caller_of_the_api_may_retry(row: Problem) -> None:
    code, enhanced, text = row.smtp

    assert str(code)[0] == enhanced[0]
    assert re.fullmatch(r"[ -~]+", text)
    assert re.fullmatch(r"[A-Z]+", row.imap)
    if row.is_retryable and row.status >= 500:
        assert 400 <= code < 500


def test_the_page_of_errors_is_what_the_table_says() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == errors_page(), "run: make openapi"
