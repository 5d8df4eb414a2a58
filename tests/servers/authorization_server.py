"""A small OAuth 2 authorization server: consent, codes with PKCE, rotating refresh tokens, revocation, introspection.

It is strict where it matters here: a code works once and only with its verifier and redirect URI, and a refresh token
that was replaced ends the whole grant when it comes again (RFC 9700 §4.14.2).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

HOST = "127.0.0.1"
CLIENT_ID = "postgate-test"
CLIENT_SECRET = "canary-client-secret"


@dataclass(slots=True)
class _Grant:
    """What one user consented to. `refresh_tokens` holds all that were ever given, the last one is valid."""

    email: str
    refresh_tokens: list[str] = field(default_factory=list)
    is_revoked: bool = False


@dataclass(slots=True)
class _Code:
    email: str
    challenge: str
    redirect_uri: str
    is_used: bool = False


class AuthorizationServer:
    """The server; its public fields say how it behaves, `asked` counts requests by path and kind."""

    def __init__(self) -> None:
        self.access_seconds = 3600
        self.rotates = True
        self.is_down = False
        self.says: tuple[int, Any] | None = None
        """Status and JSON that the token endpoint answers to whatever it is asked."""
        self.delay_seconds = 0.0
        self.denies = False
        self.takes_revocations = threading.Event()
        """Cleared: one who revokes gets no answer until it is set."""
        self.takes_revocations.set()
        self.issuer_shown: str | None = None
        self.email = "nobody@mail.test"
        """Who is signed in at the browser that comes for consent."""
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._codes: dict[str, _Code] = {}
        self._grants: list[_Grant] = []
        self._access: dict[str, tuple[_Grant, float]] = {}
        self._server = _Listener(self)
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self.takes_revocations.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # ---- for tests

    def consent(self, email: str) -> str:
        """A refresh token, as after a consent that was given elsewhere."""
        with self._lock:
            return self._new_grant(email).refresh_tokens[-1]

    def revoke(self, email: str) -> None:
        """End all grants of a user, and every access token that came of them."""
        with self._lock:
            for grant in self._grants:
                grant.is_revoked |= grant.email == email

    def is_in_force(self, email: str) -> bool:
        """Whether a user has a grant that is not revoked."""
        with self._lock:
            return any(grant.email == email and not grant.is_revoked for grant in self._grants)

    def end_access(self) -> None:
        """Let every access token expire now, earlier than it was said to."""
        with self._lock:
            self._access.clear()

    def is_valid(self, email: str, token: str) -> bool:
        """Whether a mail server may let this user in."""
        return bool(self._introspected(token).get("username") == email)

    # ---- what is asked

    def authorize(self, query: dict[str, str]) -> tuple[int, str]:
        """A redirect back to the client. Everybody consents, unless `denies`."""
        if query.get("client_id") != CLIENT_ID or query.get("response_type") != "code":
            return 400, "unknown client"
        if query.get("code_challenge_method") != "S256" or not query.get("code_challenge"):
            return 400, "PKCE is needed"
        answer = {"state": query.get("state", "")} | ({"iss": self.issuer_shown} if self.issuer_shown else {})
        if self.denies:
            answer["error"] = "access_denied"
        else:
            code = secrets.token_urlsafe(16)
            with self._lock:
                self._codes[code] = _Code(self.email, query["code_challenge"], query["redirect_uri"])
            answer["code"] = code
        return 302, f"{query['redirect_uri']}?{urlencode(answer)}"

    def token(self, form: dict[str, str], client: str | None) -> tuple[int, dict[str, Any]]:
        with self._lock:
            self.asked[form.get("grant_type", "")] += 1
        time.sleep(self.delay_seconds)
        if self.is_down:
            return 503, {"error": "temporarily_unavailable"}
        if self.says is not None:
            return self.says
        if not _is_client(form, client):
            return 401, {"error": "invalid_client"}
        with self._lock:
            kind = form.get("grant_type")
            grant = self._by_code(form) if kind == "authorization_code" else self._by_refresh_token(form)
            return (400, {"error": "invalid_grant"}) if grant is None else (200, self._tokens(grant, kind))

    def _by_code(self, form: dict[str, str]) -> _Grant | None:
        code = self._codes.get(form.get("code", ""))
        if code is None or code.is_used:
            return None
        code.is_used = True
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        is_right = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == code.challenge
        return self._new_grant(code.email) if is_right and form.get("redirect_uri") == code.redirect_uri else None

    def _by_refresh_token(self, form: dict[str, str]) -> _Grant | None:
        token = form.get("refresh_token", "")
        grant = next((one for one in self._grants if token in one.refresh_tokens), None)
        if grant is None or grant.is_revoked:
            return None
        if token != grant.refresh_tokens[-1]:
            grant.is_revoked = True
            return None
        if self.rotates:
            grant.refresh_tokens.append(f"canary-refresh-{secrets.token_urlsafe(12)}")
        return grant

    def _new_grant(self, email: str) -> _Grant:
        grant = _Grant(email, [f"canary-refresh-{secrets.token_urlsafe(12)}"])
        self._grants.append(grant)
        return grant

    def _tokens(self, grant: _Grant, kind: str | None) -> dict[str, Any]:
        access = f"canary-access-{secrets.token_urlsafe(12)}"
        self._access[access] = (grant, time.monotonic() + self.access_seconds)
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": self.access_seconds, "scope": "mail"}
        if self.rotates or kind == "authorization_code":
            answer["refresh_token"] = grant.refresh_tokens[-1]
        if kind == "authorization_code":
            answer["id_token"] = ".".join(_segment(one) for one in ({"alg": "none"}, {"email": grant.email})) + "."
        return answer

    def revoke_token(self, form: dict[str, str], client: str | None) -> tuple[int, dict[str, Any]]:
        """RFC 7009: the grant that a refresh token is of ends; one that is unknown is no error."""
        with self._lock:
            self.asked["revoke"] += 1
        self.takes_revocations.wait(60)
        if self.is_down:
            return 503, {}
        if not _is_client(form, client):
            return 401, {"error": "invalid_client"}
        with self._lock:
            for grant in self._grants:
                grant.is_revoked |= form.get("token") in grant.refresh_tokens
        return 200, {}

    def introspect(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        return 200, self._introspected(form.get("token", ""))

    def _introspected(self, token: str) -> dict[str, Any]:
        """RFC 7662."""
        with self._lock:
            grant, until = self._access.get(token, (None, 0.0))
        if grant is None or grant.is_revoked or until < time.monotonic():
            return {"active": False}
        return {"active": True, "username": grant.email, "email": grant.email}


def _is_client(form: dict[str, str], client: str | None) -> bool:
    """`client`: of an Authorization header."""
    return (client or f"{form.get('client_id')}:{form.get('client_secret')}") == f"{CLIENT_ID}:{CLIENT_SECRET}"


def _segment(claims: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, authority: AuthorizationServer) -> None:
        super().__init__((HOST, 0), _Handler)
        self.authority = authority


class _Handler(BaseHTTPRequestHandler):
    @property
    def _authority(self) -> AuthorizationServer:
        assert isinstance(self.server, _Listener)
        return self.server.authority

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self._authority.asked[parts.path] += 1
        if parts.path != "/authorize":
            self._answer(404, b"", {})
            return
        status, text = self._authority.authorize(_single(parts.query))
        self._answer(status, text.encode(), {"Location": quote(text, safe=":/?&=%")} if status == 302 else {})

    def do_POST(self) -> None:
        form = _single(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
        header = self.headers.get("Authorization", "")
        client = base64.b64decode(header[6:]).decode() if header.startswith("Basic ") else None
        answers = {"/token": lambda: self._authority.token(form, client)}
        answers["/revoke"] = lambda: self._authority.revoke_token(form, client)
        answers["/introspect"] = lambda: self._authority.introspect(form)
        status, answer = answers.get(self.path, lambda: (404, {}))()
        self._answer(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body)), "Connection": "close"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it would be on a test's stderr."""


def _single(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}
