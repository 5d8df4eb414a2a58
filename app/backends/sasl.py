"""SASL mechanisms, client side: challenges in, responses out, no I/O (RFC 4422).

`choose` picks the best mechanism that a server offers for a credential: SCRAM-SHA-256, PLAIN, LOGIN for a password,
OAUTHBEARER, XOAUTH2 for a token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from app.errors import InvalidRequest, ServerProtocolError

MAX_SCRAM_ITERATIONS = 600_000
"""A hostile server may request 2^31 hash iterations; real servers use 4,096 to a few 100,000."""
MAX_CHALLENGE_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Credential:
    """A user name with a password or an OAuth access token. `repr` does not show the secret."""

    username: str
    secret: str
    is_token: bool = False

    def __post_init__(self) -> None:
        if any(character in text for text in (self.username, self.secret) for character in "\0\r\n"):
            raise InvalidRequest("A user name or password must not contain control characters")

    def __repr__(self) -> str:
        return f"Credential({self.username!r})"


class Mechanism(Protocol):
    """One attempt to authenticate."""

    name: str
    is_slow: bool
    """Whether `respond` is CPU-intensive and must run in a thread."""

    def initial(self) -> bytes | None:
        """The initial response, or None for a mechanism in which the server sends the first challenge."""
        ...

    def respond(self, challenge: bytes, /) -> bytes:
        """The response to a challenge. Raises ServerProtocolError for an invalid one."""
        ...

    def finish(self) -> None:
        """Check the login after success. Raises ServerProtocolError if the server did not prove its identity."""
        ...


class _OneStep:
    """A mechanism with a single response; a further challenge is an error report, answered by an empty response."""

    name: str
    is_slow = False

    def __init__(self, response: bytes) -> None:
        self._response = response

    def initial(self) -> bytes | None:
        return self._response

    def respond(self, _challenge: bytes, /) -> bytes:
        return b""

    def finish(self) -> None:
        return None


class Plain(_OneStep):
    """The PLAIN mechanism (RFC 4616)."""

    name = "PLAIN"

    def __init__(self, credential: Credential) -> None:
        super().__init__(f"\0{credential.username}\0{credential.secret}".encode())


class XOAuth2(_OneStep):
    """Google's and Microsoft's mechanism. A refusal is a challenge with JSON, followed by NO."""

    name = "XOAUTH2"

    def __init__(self, credential: Credential) -> None:
        super().__init__(f"user={credential.username}\1auth=Bearer {credential.secret}\1\1".encode())


class OAuthBearer(_OneStep):
    """RFC 7628. A refusal is a challenge with JSON, which is answered by ^A and followed by NO."""

    name = "OAUTHBEARER"

    def __init__(self, credential: Credential) -> None:
        super().__init__(f"n,a={_saslname(credential.username)},\1auth=Bearer {credential.secret}\1\1".encode())

    def respond(self, _challenge: bytes, /) -> bytes:
        return b"\1"


class SaslLogin:
    """The obsolete LOGIN mechanism: the server asks for the user name, then the password."""

    name = "LOGIN"
    is_slow = False

    def __init__(self, credential: Credential) -> None:
        self._responses = [credential.secret.encode(), credential.username.encode()]

    def initial(self) -> bytes | None:
        return None

    def respond(self, _challenge: bytes, /) -> bytes:
        if not self._responses:
            raise ServerProtocolError("The server requests more than a user name and a password")
        return self._responses.pop()

    def finish(self) -> None:
        return None


class ScramSha256:
    """RFC 5802, RFC 7677, without channel binding. The server also proves that it knows the password."""

    name = "SCRAM-SHA-256"
    is_slow = True

    def __init__(self, credential: Credential, nonce: str | None = None) -> None:
        self._password = credential.secret.encode()
        self._nonce = nonce or secrets.token_urlsafe(24)
        self._first_bare = f"n={_saslname(credential.username)},r={self._nonce}"
        self._signature: bytes | None = None
        self._is_proven = False

    def initial(self) -> bytes | None:
        return f"n,,{self._first_bare}".encode()

    def respond(self, challenge: bytes, /) -> bytes:
        if self._signature is None:
            return self._final_message(_attributes(challenge), challenge.decode("ascii", "replace"))
        self._verify(_attributes(challenge))
        return b""

    def finish(self) -> None:
        if not self._is_proven:
            raise ServerProtocolError("The server did not prove that it knows the password")

    def _final_message(self, server: dict[str, str], server_first: str) -> bytes:
        nonce, salt, iterations = server.get("r", ""), _decoded(server.get("s", "")), server.get("i", "")
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce) or "m" in server:
            raise ServerProtocolError("The server's SCRAM challenge is not valid")
        if not (iterations.isascii() and iterations.isdigit() and len(iterations) < 10):
            raise ServerProtocolError("The server's SCRAM iteration count is not valid")
        if not 0 < int(iterations) <= MAX_SCRAM_ITERATIONS:
            raise ServerProtocolError("The server requests too many SCRAM iterations")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, int(iterations))
        without_proof = f"c=biws,r={nonce}"
        signed = f"{self._first_bare},{server_first},{without_proof}".encode()
        client_key = _hmac(salted, b"Client Key")
        client_signature = _hmac(hashlib.sha256(client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, client_signature, strict=True))
        self._signature = _hmac(_hmac(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def _verify(self, server: dict[str, str]) -> None:
        assert self._signature is not None
        if not hmac.compare_digest(_decoded(server.get("v", "")), self._signature):
            raise ServerProtocolError("The server did not prove that it knows the password")
        self._is_proven = True


PASSWORD_MECHANISMS: tuple[type[ScramSha256 | Plain | SaslLogin], ...] = (ScramSha256, Plain, SaslLogin)
TOKEN_MECHANISMS: tuple[type[OAuthBearer | XOAuth2], ...] = (OAuthBearer, XOAuth2)


def candidates(credential: Credential, offered: Collection[str]) -> list[Mechanism]:
    """Offered mechanisms (upper-case names) that fit the credential, the best first."""
    mechanisms: Iterable[type[ScramSha256 | Plain | SaslLogin | OAuthBearer | XOAuth2]]
    mechanisms = TOKEN_MECHANISMS if credential.is_token else PASSWORD_MECHANISMS
    return [mechanism(credential) for mechanism in mechanisms if mechanism.name in offered]


def choose(credential: Credential, offered: Collection[str]) -> Mechanism | None:
    """The best offered mechanism that fits the credential, or None."""
    return next(iter(candidates(credential, offered)), None)


def decode_challenge(text: bytes) -> bytes:
    """Decode a base64 challenge. Raises ServerProtocolError when it is invalid or too long."""
    if len(text) > MAX_CHALLENGE_BYTES:
        raise ServerProtocolError("A login challenge is too long")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ServerProtocolError("A login challenge is not base64") from None


def _saslname(text: str) -> str:
    return text.replace("=", "=3D").replace(",", "=2C")


def _attributes(challenge: bytes) -> dict[str, str]:
    fields = challenge.decode("ascii", "replace").split(",")
    return {field[0]: field[2:] for field in fields if field[1:2] == "="}


def _decoded(text: str) -> bytes:
    return decode_challenge(text.encode("ascii", "replace"))


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
