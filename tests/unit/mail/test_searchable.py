from __future__ import annotations

import pytest
from app.mail import filter as f
from app.mail.highlighting import BEFORE_CHARS, SNIPPET_CHARS, snippet_of, terms_of
from app.mail.searchable import fold, has_field

from tests.cpu import at_most_cpu_seconds


def test_a_snippet_begins_and_ends_with_whole_words() -> None:
    words = [f"word{number}" for number in range(200)]

    pieces = snippet_of(" ".join(words), {fold("word99")})

    assert [piece.text for piece in pieces if piece.is_match] == ["word99"]
    shown = "".join(piece.text for piece in pieces).split()
    assert shown == words[words.index(shown[0]) :][: len(shown)]
    assert len(shown) > 20


def test_a_snippet_of_a_text_without_spaces_is_cut_anywhere() -> None:
    pieces = snippet_of("x" * 500 + "term" + "x" * 500, {fold("term")})

    assert [len(piece.text) for piece in pieces] == [BEFORE_CHARS, 4, SNIPPET_CHARS - BEFORE_CHARS - 4]


@pytest.mark.parametrize(
    ("text", "term", "is_found"),
    [
        ("Café", "cafe", True),
        ("cafés", "cafes", False),  # the accent stands between e and s
        ("straße", "STRASSE", False),
        ("straße", "STRAßE", True),
        ("Ｗide", "wide", True),
        ("ﬁnal", "final", False),  # what a letter is made of keeps its case
        ("ﬁnal", "ﬁN", True),
        ("ÄPFEL", "äpfel", True),
        ("a\ud800b", "a", True),
    ],
)
def test_texts_compare_as_dovecot_compares_them(text: str, term: str, is_found: bool) -> None:
    assert (fold(term) in fold(text)) is is_found


def test_folding_leaves_nothing_that_a_database_refuses() -> None:
    folded = fold("".join(chr(code) for code in range(1, 0x11000)))

    assert folded.encode()
    assert fold(fold("Zürich")) == fold("Zürich")


def test_a_field_is_looked_for_in_the_message_s_own_header_alone() -> None:
    header = "\nSUBJECT: ONE  TWO\nX-A :B\nNO FIELD\n\f\nX-PART: C\n"

    assert [has_field(header, *one) for one in (("subject", "E  T"), ("X-a", "B"), ("X-A", ""))] == [True] * 3
    assert [has_field(header, *one) for one in (("X-Part", ""), ("No field", ""), ("Subject", "E T"))] == [False] * 3


def test_what_is_excluded_is_not_highlighted() -> None:
    tree = f.All((f.Contains("from", "Ann"), f.Not(f.Text("text", "x")), f.Any((f.Text("body", "y"), f.HasFlag("z")))))

    assert terms_of(tree) == {"from": {"ANN"}, "body": {"Y"}}


def test_pieces_of_a_snippet_join_to_what_is_written() -> None:
    text = "x" * 100 + " Zürich, cafétéria and ZÜRICH" + "y" * 400

    pieces = snippet_of(text, {fold("zürich"), fold("cafe")})

    assert "".join(one.text for one in pieces) in text
    assert [one.text for one in pieces if one.is_match] == ["Zürich", "café", "ZÜRICH"]
    assert sum(len(one.text) for one in pieces) <= 240
    assert snippet_of(text, {"ABSENT", ""}) == []
    assert [one.text for one in snippet_of("aaaa", {"AA", "AAA"}) if one.is_match] == ["aaaa"]


@pytest.mark.parametrize("text", ["a" * 32_000, "é" * 32_000, "\U0001f600" * 16_000, "aé" * 16_000])
def test_snippets_of_hostile_text_take_moderate_time(text: str) -> None:
    with at_most_cpu_seconds(2):
        snippet_of(text, {fold(text[:length]) for length in range(1, 200)})
