from __future__ import annotations

import base64

import pytest
from app.backends.sasl import (
    Credential,
    OAuthBearer,
    Plain,
    SaslLogin,
    ScramSha256,
    XOAuth2,
    choose,
    decode_challenge,
)
from app.errors import InvalidRequest, ServerProtocolError

USER = Credential("user", "pencil")
TOKEN = Credential("me@example.com", "ya29.token", is_token=True)

# the exchange printed in RFC 7677 §3
NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> ScramSha256:
    return ScramSha256(USER, nonce=NONCE)


def test_scram_speaks_as_the_rfc_prints_it() -> None:
    mechanism = scram()

    assert mechanism.initial() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert mechanism.respond(SERVER_FIRST) == CLIENT_FINAL
    assert mechanism.respond(SERVER_FINAL) == b""
    mechanism.finish()


def test_a_server_that_cannot_prove_itself_is_not_believed() -> None:
    mechanism = scram()
    mechanism.respond(SERVER_FIRST)

    with pytest.raises(ServerProtocolError):
        mechanism.respond(b"v=" + base64.b64encode(b"x" * 32))
    with pytest.raises(ServerProtocolError):
        mechanism.finish()


@pytest.mark.parametrize("rounds", [b"2147483648", b"600001", b"0", b"-1", b"99999999999999999999", b"x", b""])
def test_a_hostile_iteration_count_is_refused_before_it_is_computed(rounds: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        scram().respond(SERVER_FIRST.replace(b"4096", rounds))


@pytest.mark.parametrize("challenge", [b"", b"r=other,s=AA==,i=4096", b"r=" + NONCE.encode() + b",s=AA==,i=4096"])
def test_a_challenge_without_the_clients_nonce_is_refused(challenge: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        scram().respond(challenge)


def test_names_are_escaped_where_commas_and_equal_signs_mean_something() -> None:
    assert b"n=a=2Cb=3Dc," in (ScramSha256(Credential("a,b=c", "x")).initial() or b"")
    assert b"a=a=2Cb=3Dc," in (OAuthBearer(Credential("a,b=c", "x", is_token=True)).initial() or b"")


def test_each_mechanism_says_what_it_must() -> None:
    assert Plain(USER).initial() == b"\0user\0pencil"
    assert XOAuth2(TOKEN).initial() == b"user=me@example.com\1auth=Bearer ya29.token\1\1"
    assert OAuthBearer(TOKEN).initial() == b"n,a=me@example.com,\1auth=Bearer ya29.token\1\1"
    assert OAuthBearer(TOKEN).respond(b"{}") == b"\1"
    assert XOAuth2(TOKEN).respond(b"{}") == b""


def test_login_answers_two_questions_and_no_third() -> None:
    mechanism = SaslLogin(USER)

    assert mechanism.initial() is None
    assert [mechanism.respond(b"Username:"), mechanism.respond(b"Password:")] == [b"user", b"pencil"]
    with pytest.raises(ServerProtocolError):
        mechanism.respond(b"PIN:")


@pytest.mark.parametrize(
    ("credential", "offered", "chosen"),
    [
        (USER, {"PLAIN", "LOGIN", "SCRAM-SHA-256"}, "SCRAM-SHA-256"),
        (USER, {"PLAIN", "LOGIN"}, "PLAIN"),
        (USER, {"LOGIN", "XOAUTH2"}, "LOGIN"),
        (USER, {"XOAUTH2"}, None),
        (TOKEN, {"PLAIN", "XOAUTH2", "OAUTHBEARER"}, "OAUTHBEARER"),
        (TOKEN, {"PLAIN", "XOAUTH2"}, "XOAUTH2"),
        (TOKEN, {"PLAIN"}, None),
    ],
)
def test_the_best_fitting_mechanism_is_chosen(credential: Credential, offered: set[str], chosen: str | None) -> None:
    mechanism = choose(credential, offered)

    assert (mechanism.name if mechanism else None) == chosen


@pytest.mark.parametrize("text", [b"!!!", b"A", b"A" * 20_000])
def test_a_challenge_that_is_not_base64_ends_the_attempt(text: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        decode_challenge(text)


@pytest.mark.parametrize("value", ["a\0b", "a\rb", "a\nb"])
def test_control_characters_in_a_login_are_refused(value: str) -> None:
    with pytest.raises(InvalidRequest):
        Credential(value, "x")
    with pytest.raises(InvalidRequest):
        Credential("x", value)


def test_a_credential_never_shows_its_secret() -> None:
    assert "pencil" not in repr(USER)
