"""Address lists, honest and tricky."""

from __future__ import annotations

import pytest
from app.mail.types import Address, EnvelopeAddress
from app.mime.addresses import MAX_ADDRESSES, MISSING_DOMAIN, MISSING_MAILBOX, parse_addresses, readable
from hypothesis import given
from hypothesis import strategies as st


def shown(text: str) -> list[tuple[str, str]]:
    return [(address.name, address.address) for address in readable(tuple(parse_addresses(text)))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@b.example", [("", "a@b.example")]),
        ("<a@b.example>", [("", "a@b.example")]),
        ("Ann Example <a@b.example>", [("Ann Example", "a@b.example")]),
        ('"Example, Ann" <a@b.example>, b@c.example', [("Example, Ann", "a@b.example"), ("", "b@c.example")]),
        (r'"Ann \"A\" \\ Example" <a@b.example>', [('Ann "A" \\ Example', "a@b.example")]),
        ("Ann Q. Public <a@b.example>", [("Ann Q. Public", "a@b.example")]),
        ("a@b.example (Ann Example)", [("Ann Example", "a@b.example")]),
        ("Ann (the (real) one) <a@b.example>", [("Ann", "a@b.example")]),
        ("Ann Example", [("Ann Example", "")]),
        ('"Ann Example", root', [("Ann Example", ""), ("", "root")]),
        ("ann at b.example (Ann)", [("ann at b.example (Ann)", "")]),
        ("=?utf-8?Q?Ann_<a@b.example>?=", [("Ann <a@b.example>", "")]),
        ("a . b @ c . example", [("", "a.b@c.example")]),
        ("<@r.example,@s.example:a@b.example>", [("", "a@b.example")]),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("a@b.example,, ,c@d.example,", [("", "a@b.example"), ("", "c@d.example")]),
        ("a@b.example; c@d.example", [("", "a@b.example"), ("", "c@d.example")]),
        (
            "Team: a@b.example, Bob <c@d.example>;, e@f.example",
            [("", "a@b.example"), ("Bob", "c@d.example"), ("", "e@f.example")],
        ),
        ("undisclosed-recipients:;", []),
        ("=?utf-8?Q?Doe,_J=C3=BC?= <a@b.example>", [("Doe, Jü", "a@b.example")]),
        ("root", [("", "root")]),
        ("", []),
        ("<>", []),
        ("Ann <>", [("Ann", "")]),
    ],
)
def test_addresses_are_read(text: str, expected: list[tuple[str, str]]) -> None:
    assert shown(text) == expected


def test_groups_are_marked_as_in_envelope() -> None:
    end = EnvelopeAddress(None, None, None, None)

    assert parse_addresses("Team: a@b.example;") == [
        EnvelopeAddress(None, None, "Team", None),
        EnvelopeAddress(None, None, "a", "b.example"),
        end,
    ]


def test_nested_groups_are_read_without_recursion() -> None:
    found = parse_addresses("a:" * 50_000 + "x@y.example;")

    assert found[-2:] == [EnvelopeAddress(None, None, "x", "y.example"), EnvelopeAddress(None, None, None, None)] or (
        len(found) == MAX_ADDRESSES
    )


def test_a_route_is_kept_apart() -> None:
    assert parse_addresses("Ann <@r.example:a@b.example>") == [EnvelopeAddress("Ann", "@r.example", "a", "b.example")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"a@evil.example x"@good.example', [("", '"a@evil.example x"@good.example')]),
        ('"real@bank.example" <a@evil.example>', [("real@bank.example", "a@evil.example")]),
        ("real@bank.example <a@evil.example>", [("real@bank.example", "a@evil.example")]),
        ("=?utf-8?Q?real=40bank.example?= <a@evil.example>", [("real@bank.example", "a@evil.example")]),
        ("=?utf-8?Q?=3Creal=40bank.example=3E?= <a@evil.example>", [("<real@bank.example>", "a@evil.example")]),
        ("a@evil.example (real@bank.example)", [("real@bank.example", "a@evil.example")]),
        ("a@evil.example@good.example", [("a@evil.example@good.example", "")]),
        ("<a@evil.example> <b@good.example>", [("a@evil.example b@good.example", "")]),
        ("<a@evil.example>b@good.example", [("a@evil.example", "")]),
        ("a b@good.example", [("a b@good.example", "")]),
        ("alice@[evil", [("alice@[evil", "")]),
    ],
)
def test_an_ambiguous_address_is_no_address(text: str, expected: list[tuple[str, str]]) -> None:
    assert shown(text) == expected


def test_the_real_address_is_shown_without_nul_or_line_end_in_the_name() -> None:
    spoofed = "=?utf-8?b?cG90dXNAd2hpdGVob3VzZS5nb3Y=?==?utf-8?Q?=00=0A?=<demo@evil.example>"

    assert shown(spoofed) == [("potus@whitehouse.gov", "demo@evil.example")]


def test_what_is_no_address_is_said_in_dovecots_words() -> None:
    assert parse_addresses("a@b@c") == [EnvelopeAddress("a@b@c", None, MISSING_MAILBOX, MISSING_DOMAIN)]
    assert readable((EnvelopeAddress("x", None, MISSING_MAILBOX, MISSING_DOMAIN),)) == (Address("x", ""),)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (EnvelopeAddress(None, None, "broken", "SYNTAX_ERROR"), [Address("", "broken")]),
        (EnvelopeAddress("A", None, "MISSING_MAILBOX", "MISSING_DOMAIN"), [Address("A", "")]),
        (EnvelopeAddress("A", None, "", ""), [Address("A", "")]),
        (EnvelopeAddress(None, None, "", ""), []),
        (EnvelopeAddress(None, None, "a", ".SYNTAX-ERROR."), [Address("", "a")]),
    ],
)
def test_what_servers_put_in_the_place_of_an_address_is_not_shown(told: EnvelopeAddress, shown: list[Address]) -> None:
    assert list(readable((told,))) == shown


def test_100_000_addresses_are_bounded() -> None:
    assert len(parse_addresses("a@b.example, " * 100_000)) == MAX_ADDRESSES
    assert len(parse_addresses("(c) a@b.example, " * 100_000)) == MAX_ADDRESSES


@given(st.text(alphabet='ab@<>"\\(),:;.[]= ?\u00e9\x00', max_size=60))
def test_any_text_is_a_list(text: str) -> None:
    for address in readable(tuple(parse_addresses(text))):
        assert address.name.isprintable()
