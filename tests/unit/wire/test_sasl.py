from __future__ import annotations

import base64

import pytest
from app.errors import MalformedRequest
from app.wire.sasl import SaslClaim, SaslExchange


def b64(text: str | bytes) -> bytes:
    return base64.b64encode(text.encode() if isinstance(text, str) else text)


def test_plain_takes_its_response_with_the_command_or_after_it() -> None:
    assert SaslExchange("PLAIN").start(b64("\0ann\0pass word")) == SaslClaim("ann", "pass word")
    exchange = SaslExchange("PLAIN")
    assert exchange.start(None) == b""
    assert exchange.respond(b64("ann\0ann\0geheim ü")) == SaslClaim("ann", "geheim ü")


def test_login_asks_for_name_and_password() -> None:
    exchange = SaslExchange("LOGIN")

    assert exchange.start(None) == b"Username:"
    assert exchange.respond(b64("ann")) == b"Password:"
    assert exchange.respond(b64("secret")) == SaslClaim("ann", "secret")


def test_login_takes_the_name_with_the_command() -> None:
    exchange = SaslExchange("LOGIN")

    assert exchange.start(b64("ann")) == b"Password:"
    assert exchange.respond(b"") == SaslClaim("ann", "")


@pytest.mark.parametrize(
    "response",
    [b"*", b"!!!", b"abc", b64("ann"), b64("\0ann"), b64("a\0b\0c\0d"), b64("boss\0ann\0secret"), b64(b"\0\xff\0x")],
)
def test_what_is_no_response_ends_the_attempt(response: bytes) -> None:
    exchange = SaslExchange("PLAIN")
    exchange.start(None)

    with pytest.raises(MalformedRequest):
        exchange.respond(response)


def test_an_over_long_initial_response_is_refused() -> None:
    with pytest.raises(MalformedRequest):
        SaslExchange("PLAIN").start(b"A" * 8196)


def test_an_empty_initial_response_is_one() -> None:
    with pytest.raises(MalformedRequest):
        SaslExchange("PLAIN").start(b"=")


def test_a_claim_never_shows_its_password() -> None:
    assert "secret" not in repr(SaslClaim("ann", "secret"))
