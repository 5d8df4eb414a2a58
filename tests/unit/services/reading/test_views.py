from __future__ import annotations

import pytest
from app.errors import InvalidRequest
from app.services.reading.views import SUMMARY, View, view_of


def test_the_summary_is_prepared_and_nothing_else_is() -> None:
    assert view_of("summary") == SUMMARY
    assert SUMMARY.is_prepared
    assert not view_of("summary", "id").is_prepared
    assert not view_of("summary", None, "thread").is_prepared
    assert not view_of("full").is_prepared


@pytest.mark.parametrize(
    ("fields", "needs_full", "needs_body"),
    [
        (None, True, True),
        ("id,subject", False, False),
        ("attachments.filename,bcc", True, False),
        ("text", True, True),
        ("problems", True, True),
    ],
)
def test_what_is_left_out_is_not_read(fields: str | None, needs_full: bool, needs_body: bool) -> None:
    view = view_of("full", fields)

    assert (view.needs_full, view.needs_body) == (needs_full, needs_body)


def test_inclusions_are_read_from_their_list() -> None:
    assert view_of("ids", None, "headers:List-Id, thread ,headers:X-A") == View("ids", None, ("List-Id", "X-A"), True)


@pytest.mark.parametrize("include", ["x", "headers", "headers:", "headers:a b", "headers:a:b", "thread:1"])
def test_an_inclusion_that_there_is_not_is_refused(include: str) -> None:
    with pytest.raises(InvalidRequest):
        view_of("summary", None, include)


@pytest.mark.parametrize("fields", ["x", "id.x", "text", "from.", ".id", ",".join(["id"] * 101)])
def test_a_field_that_there_is_not_is_refused(fields: str) -> None:
    with pytest.raises(InvalidRequest):
        view_of("summary", fields)
