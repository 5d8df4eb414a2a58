"""What callers may put into headers and envelopes."""

from __future__ import annotations

import pytest
from app.errors import InvalidRequest
from app.mime.validate import header_text, validate_address, validate_header, validate_message_id
from hypothesis import given
from hypothesis import strategies as st

CONTROLS = ("\r", "\n", "\r\n", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\ud800")


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("a@b.example", "a@b.example"),
        ("a.b+c@d-e.example", "a.b+c@d-e.example"),
        ("o'brien{5}@b.example", "o'brien{5}@b.example"),
        ("a@localhost", "a@localhost"),
        ("a@[192.0.2.1]", "a@[192.0.2.1]"),
        ("a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
        ('"a..b"@c.example', '"a..b"@c.example'),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
        ("a@日本.example", "a@xn--wgv71a.example"),
    ],
)
def test_addresses_that_can_be_meant_in_one_way_are_taken(address: str, normal: str) -> None:
    assert validate_address(address, "/to/0/address") == normal


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "a",
            "@",
            "a@",
            "@b.example",
            "a@b@c.example",
            "a b@c.example",
            " a@b.example",
            "a@b.example ",
            "a@b c.example",
        ),
        *('"a@evil.example x"@good.example', '"a b"@c.example', '"a\\"b"@c.example', "a@b.example,c@d.example"),
        *("Ann <a@b.example>", "<a@b.example>", "a(c)@b.example", "a@b.example(c)", ".a@b.example", "a.@b.example"),
        *(
            "a..b@c.example",
            "a@.b",
            "a@b..c",
            "a@-b.example",
            "a@b-.example",
            "a@[1.2.3]",
            "a@[evil]",
            "a@b]",
            "a@" + "b" * 64,
        ),
        *("a@b.example" + control for control in CONTROLS),
        *(f"a{control}RCPT TO:<x@y>@b.example" for control in CONTROLS),
        *("=?utf-8?q?a=40evil?=@b.example x", "a@b.example{5}", "a;b@c.example", "a:b@c.example", "a@b.example\tx"),
        *("a" * 65 + "@b.example", "a@" + "b." * 200 + "example", "ü@b.example", "a@\u200b.example"),
    ],
)
def test_and_6_doubtful_addresses_are_refused_with_a_pointer(address: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        validate_address(address, "/to/0/address")

    assert raised.value.faults[0].pointer == "/to/0/address"


def test_letters_beyond_ascii_before_the_at_need_smtputf8() -> None:
    assert validate_address("ü@b.example", "/to/0", allow_utf8=True) == "ü@b.example"


@pytest.mark.parametrize("control", CONTROLS)
def test_header_text_holds_no_control(control: str) -> None:
    with pytest.raises(InvalidRequest):
        header_text(f"a{control}Bcc: b@c.example", "/subject")
    assert header_text("tab\tand ü 😀", "/subject") == "tab\tand ü 😀"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, "x")
            for name in ("From", "BCC", "Content-Type", "content-foo", "Received", "MIME-Version", "Resent-To")
        ),
        *((name, "x") for name in ("", "A B", "A:", "A\r\nB", "Ü", "x" * 77)),
        ("X-A", "a\r\nBcc: b"),
        ("X-A", "x" * 20_000),
    ],
)
def test_headers_of_the_callers_own_stay_within_their_bounds(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest):
        validate_header(name, value, "/headers/0")


@pytest.mark.parametrize("value", ["", "a@b", "<a@b", "<>", "<a b@c>", "<a@b>\r\n", "<a@b><c@d>", "<ü@b>"])
def test_a_message_id_is_visible_ascii_in_brackets(value: str) -> None:
    with pytest.raises(InvalidRequest):
        validate_message_id(value, "/message_id_header")
    assert validate_message_id("<a.b+c@d>", "/") == "<a.b+c@d>"


@given(st.text(max_size=60))
def test_what_is_taken_cannot_end_an_smtp_command(address: str) -> None:
    try:
        normal = validate_address(address, "/", allow_utf8=True)
    except InvalidRequest:
        return
    assert not set(normal) & set("\r\n\x00<> \t,;()")
    assert normal.count("@") == 1
