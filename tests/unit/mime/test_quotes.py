"""Quoted history of HTML mail, folded away."""

from __future__ import annotations

import pytest
from app.mime.quotes import MAX_QUOTES
from app.mime.sanitise import Quotes, sanitise_html, text_as_html
from hypothesis import given
from hypothesis import strategies as st

FOLD = "<details><summary>•••</summary>"


def folded(html: str) -> str:
    return sanitise_html(html, quotes=Quotes.FOLD).html


@pytest.mark.parametrize(
    "html",
    [
        '<p>New</p><blockquote type="cite">old</blockquote>',
        '<p>New</p><div class="gmail_quote"><div>On Mon, Ann wrote:<br></div>'
        '<blockquote class="gmail_quote">old</blockquote></div>',
        '<p>New</p><div class="yahoo_quoted">old</div>',
        '<p>New</p><div class="protonmail_quote">On Mon Ann wrote:<blockquote>old</blockquote></div>',
        "<p>New</p><p>Am 24.11.2026 um 10:00 schrieb Ann:</p><blockquote>old</blockquote>",
        '<p>New</p><div id="appendonsend"></div><hr><div id="divRplyFwdMsg"><b>From:</b> Ann</div><div>old</div>',
        '<p>New</p><div><div style="border:none;border-top:solid #E1E1E1 1.0pt"><p><b>From:</b> Ann</p></div></div>'
        "<p>old</p>",
    ],
)
def test_the_quotes_of_mail_programs_are_folded_and_the_new_text_is_not(html: str) -> None:
    shown = folded(html)

    before, mark, after = shown.partition(FOLD)
    assert mark
    assert "New" in before
    assert "old" in after
    assert shown.count("<details>") == 1
    assert "<details>" not in sanitise_html(html).html


def test_an_answer_between_quotes_stays() -> None:
    quote = '<blockquote type="cite">{}</blockquote>'

    shown = folded(f"{quote.format('one')}<p>Answer</p>{quote.format('two <blockquote type=cite>three</blockquote>')}")

    assert shown.count(FOLD) == 2
    assert "</details><p>Answer</p><details>" in shown


def test_a_quotation_in_an_article_is_no_history() -> None:
    html = "<p>As the poet says:</p><blockquote>To be</blockquote>"

    assert folded(html) == html


def test_quoted_lines_of_plain_text_are_folded() -> None:
    shown = text_as_html("New\n> old <b>\n> older\nEnd\n", Quotes.FOLD)

    assert shown == (
        f'<div style="white-space: pre-wrap">New\n{FOLD}&gt; old &lt;b&gt;\n&gt; older\n</details>End\n</div>'
    )


def test_only_so_many_quotes_are_folded() -> None:
    html = '<blockquote type="cite">q</blockquote>' * (MAX_QUOTES + 10)

    assert folded(html).count(FOLD) == MAX_QUOTES


@given(
    st.lists(
        st.sampled_from(
            ["<blockquote type=cite>", "</blockquote>", "<div id=divRplyFwdMsg>", "</div>", "x", "<table><td>", "1:"]
        ),
        max_size=30,
    ).map("".join)
)
def test_folding_loses_no_words_and_never_fails(html: str) -> None:
    assert folded(html).count("x") == sanitise_html(html).html.count("x")
