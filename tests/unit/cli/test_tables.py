"""Lists on standard output."""

from __future__ import annotations

import json

import pytest
from app.cli.tables import Fields, instant, show

ROWS: list[Fields] = [
    {"id": "tok_1", "name": "Back end", "scopes": ["mail.read", "push"], "expires_at": None},
    {"id": "tok_22", "name": "", "scopes": [], "expires_at": instant(1_700_000_000_999)},
]


def test_columns_have_a_heading_and_one_width(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, ("id", "name", "scopes", "expires_at"), as_json=False)

    assert capsys.readouterr().out == (
        "ID      NAME      SCOPES          EXPIRES_AT\n"
        "tok_1   Back end  mail.read push  -\n"
        "tok_22  -                         2023-11-14T22:13:20Z\n"
    )


def test_json_has_the_fields_in_order_and_null_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, ("id", "expires_at"), as_json=True)

    assert json.loads(capsys.readouterr().out) == [
        {"id": "tok_1", "expires_at": None},
        {"id": "tok_22", "expires_at": "2023-11-14T22:13:20Z"},
    ]


def test_a_name_cannot_control_the_terminal_that_it_is_shown_on(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"name": "\x1b[2J\nnew line\u202e"}], ("name",), as_json=False)

    assert capsys.readouterr().out == "NAME\n?[2J?new line?\n"
