"""A secret that a server repeats is masked in every encoding that it was sent in."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote, quote_plus

import pytest
from app.mail.masking import Masker

SECRETS = [
    "canary-right",
    'pa"ss\\wörd €',
    "hunter22",
    "ya29." + "aB3-_" * 40,
    "correct horse battery staple",
    "p+/=%&<",
    "Пароль",
]


def encodings(secret: str) -> dict[str, str]:
    octets = secret.encode()
    return {
        "plain": secret,
        "quoted": secret.replace("\\", "\\\\").replace('"', '\\"'),
        "upper case": secret.upper(),
        "base64": base64.b64encode(octets).decode(),
        "base64 for URLs": base64.urlsafe_b64encode(octets).decode(),
        "PLAIN": base64.b64encode(b"\0me@example.com\0" + octets).decode(),
        "XOAUTH2": base64.b64encode(b"user=me\1auth=Bearer " + octets + b"\1\1").decode(),
        "OAUTHBEARER": base64.b64encode(b"n,a=me@x,\1auth=Bearer " + octets + b"\1\1").decode(),
        "URL": quote(secret, safe=""),
        "form": quote_plus(secret),
        "JSON": json.dumps(secret)[1:-1],
        "HTML": html.escape(secret),
        "UTF-7": secret.encode("utf-7").decode(),
        "hex": octets.hex(),
    }


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("encoding", list(encodings("x")))
def test_a_secret_is_masked_in_every_encoding(secret: str, encoding: str) -> None:
    repeated = encodings(secret)[encoding]

    shown = Masker([secret]).mask(f"NO [AUTHENTICATIONFAILED] you sent {repeated} as login")

    assert shown == "NO [AUTHENTICATIONFAILED] you sent … as login"


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    masker = Masker([secret])

    assert masker.mask(secret) == "…"
    assert masker.mask(f"x{secret}{secret}y") == "x……y"
    assert masker.mask_bytes(f"a1 BAD LOGIN {secret}\r\n".encode()) == "a1 BAD LOGIN …\r\n".encode()


def test_a_long_secret_is_masked_where_it_is_cut_off() -> None:
    token = "ya29." + "aB3-_" * 40

    assert Masker([token]).mask(f"NO bearer {token[:60]}") == "NO bearer …"


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    assert Masker(["canary"]).mask_bytes(b"NO \xff canary \xfe") == b"NO \xff \xe2\x80\xa6 \xfe"


def test_a_short_secret_is_masked_as_a_word_and_not_within_words() -> None:
    assert Masker(["no"]).mask("NO nothing: no") == "… nothing: …"


def test_a_proof_of_a_login_is_masked_and_a_user_name_is_not() -> None:
    masker = Masker(["secret"])
    masker.add_response(b"c=biws,r=abc,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    masker.add_response(b"me@example.com")

    assert masker.mask("NO bad proof dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=") == "NO bad proof …"
    assert masker.mask("NO such user me@example.com") == "NO such user me@example.com"


def test_masking_long_text_takes_linear_work() -> None:
    text = "A" * 200_000

    assert Masker(["canary", "AAAAAAA"]).mask(text).count("A") < 10
