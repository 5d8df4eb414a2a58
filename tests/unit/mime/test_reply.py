"""Answers and forwards."""

from __future__ import annotations

import pytest
from app.mail.types import Address, Overview
from app.mime.reply import (
    MAX_REFERENCES,
    forward_subject,
    forwarded_html,
    forwarded_text,
    quoted_html,
    quoted_text,
    reply_recipients,
    reply_references,
    reply_subject,
)

ANN, BOB, CAROL, LIST = (Address(name, f"{name.lower()}@example.com") for name in ("Ann", "Bob", "Carol", "List"))
ORIGINAL = Overview(
    "Plans",
    from_=(ANN,),
    to=(BOB, CAROL),
    cc=(LIST,),
    date_ms=1_704_104_430_000,
    message_id_header="<3@x>",
    references=("<1@x>",),
)


@pytest.mark.parametrize(
    ("subject", "reply", "forward"),
    [
        ("Plans", "Re: Plans", "Fwd: Plans"),
        ("Re: Plans", "Re: Plans", "Fwd: Re: Plans"),
        ("AW: Plans", "AW: Plans", "Fwd: AW: Plans"),
        ("RE[2]: Plans", "RE[2]: Plans", "Fwd: RE[2]: Plans"),
        ("Fwd: Plans", "Re: Fwd: Plans", "Fwd: Plans"),
        ("Regarding: x", "Re: Regarding: x", "Fwd: Regarding: x"),
        ("", "Re:", "Fwd:"),
    ],
)
def test_a_prefix_comes_once(subject: str, reply: str, forward: str) -> None:
    assert reply_subject(subject) == reply
    assert forward_subject(subject) == forward


def test_an_answer_goes_to_the_author() -> None:
    assert reply_recipients(ORIGINAL, {"bob@example.com"}, to_all=False) == ((ANN,), ())


def test_an_answer_to_all_leaves_oneself_out_and_names_no_one_twice() -> None:
    assert reply_recipients(ORIGINAL, {"bob@example.com"}, to_all=True) == ((ANN,), (CAROL, LIST))


def test_reply_to_is_where_answers_go() -> None:
    original = Overview(from_=(ANN,), reply_to=(LIST,), to=(LIST, BOB))

    assert reply_recipients(original, {"bob@example.com"}, to_all=False) == ((LIST,), ())
    assert reply_recipients(original, {"bob@example.com"}, to_all=True) == ((LIST,), ())


def test_an_answer_to_ones_own_message_goes_to_whom_that_went() -> None:
    own = {"ann@example.com"}

    assert reply_recipients(ORIGINAL, own, to_all=False) == ((BOB, CAROL), ())
    assert reply_recipients(ORIGINAL, own, to_all=True) == ((BOB, CAROL), (LIST,))
    assert reply_recipients(Overview(from_=(ANN,), to=(ANN,)), own, to_all=True) == ((ANN,), ())


def test_an_author_without_an_address_gets_no_answer() -> None:
    assert reply_recipients(Overview(from_=(Address("x", ""),)), set(), to_all=True) == ((), ())


def test_what_cannot_be_written_to_is_left_out_unless_nobody_is_left() -> None:
    odd = (Address("", "Doe"), Address("John", "j@x.test"), Address("", '""@x.test'), Address("", "broken@"))

    assert reply_recipients(Overview(from_=odd), set(), to_all=False) == ((Address("John", "j@x.test"),), ())
    assert reply_recipients(Overview(from_=odd[1:2], cc=odd), set(), to_all=True) == (
        (Address("John", "j@x.test"),),
        (),
    )
    assert reply_recipients(Overview(from_=odd[:1]), set(), to_all=False) == ((), ())
    assert reply_recipients(Overview(reply_to=odd[:1], from_=odd[1:2]), set(), to_all=False)[0] == odd[1:2]


def test_an_answer_to_a_list_that_names_oneself_leaves_oneself_out() -> None:
    both = (Address("", "list@x.test"), Address("", "me@x.test"))

    assert reply_recipients(Overview(reply_to=both), {"me@x.test"}, to_all=False) == (both[:1], ())


def test_a_message_id_without_brackets_gets_them_in_an_answer() -> None:
    assert reply_references(Overview(message_id_header="1@x.test")) == (("<1@x.test>",), ("<1@x.test>",))
    assert reply_references(Overview(message_id_header="two words")) == ((), ())


def test_references_grow_by_the_message_answered() -> None:
    assert reply_references(ORIGINAL) == (("<3@x>",), ("<1@x>", "<3@x>"))
    assert reply_references(Overview(message_id_header="<2@x>", in_reply_to=("<1@x>",))) == (
        ("<2@x>",),
        ("<1@x>", "<2@x>"),
    )
    assert reply_references(Overview(message_id_header="no brackets")) == ((), ())
    assert reply_references(Overview()) == ((), ())


def test_of_many_references_the_root_and_the_nearest_stay() -> None:
    original = Overview(message_id_header="<own@x>", references=tuple(f"<{index}@x>" for index in range(200)))

    _, references = reply_references(original)

    assert len(references) == MAX_REFERENCES
    assert (references[0], references[-2:]) == ("<0@x>", ("<199@x>", "<own@x>"))


def test_quoted_text_says_whose_it_is() -> None:
    assert quoted_text(ORIGINAL, "Hello\n\n> older\n") == (
        "On 2024-01-01 10:20 UTC, Ann <ann@example.com> wrote:\n> Hello\n>\n>> older"
    )


def test_names_in_quoted_html_are_text() -> None:
    original = Overview(subject="<b>", from_=(Address("<script>", "a@b.example"),))

    assert "<script>" not in quoted_html(original, "<p>x</p>")
    assert quoted_html(original, "<p>x</p>").endswith('<blockquote type="cite"><p>x</p></blockquote>')
    assert "<b>:" not in forwarded_html(original, "").replace("<b>From:", "").replace("<b>Subject:", "")
    assert "&lt;b&gt;" in forwarded_html(original, "")


def test_a_forward_shows_the_chief_headers() -> None:
    assert forwarded_text(ORIGINAL, "Hello") == (
        "---------- Forwarded message ----------\n"
        "From: Ann <ann@example.com>\n"
        "Date: 2024-01-01 10:20 UTC\n"
        "Subject: Plans\n"
        "To: Bob <bob@example.com>, Carol <carol@example.com>\n"
        "Cc: List <list@example.com>\n"
        "\n"
        "Hello"
    )
