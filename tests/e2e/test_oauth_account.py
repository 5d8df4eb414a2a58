"""An account reached by consent, on a real Dovecot that asks an authorization server: how it lives, ends and heals."""

from __future__ import annotations

import base64
import re
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.e2e.rest import eventually
from tests.load import message
from tests.oauth import DONE, app_order, left_for, outcome_of
from tests.servers.authorization_server import AuthorizationServer
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate
from tests.servers.process import ServerFailed
from tests.servers.smtp_sink import SmtpSink


@pytest.fixture
def user(token_dovecot: Dovecot, authority: AuthorizationServer) -> DovecotUser:
    user = token_dovecot.add_user()
    authority.email, authority.rotates = user.name, True
    return user


@pytest.fixture
def app_id(client: httpx2.Client, authority: AuthorizationServer, token_dovecot: Dovecot, token_sink: SmtpSink) -> str:
    imap = {"host": "127.0.0.1", "port": token_dovecot.imaps_port}
    smtp = {"host": "127.0.0.1", "port": token_sink.tls_port}
    pop3 = {"host": "127.0.0.1", "port": token_dovecot.pop3s_port}
    made = client.post("/v1/oauth-apps", json=app_order(authority, imap=imap, pop3=pop3, smtp=smtp))
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def connected(client: httpx2.Client, app_id: str, **order: str) -> str:
    """The account of a person who goes all the way from the link through consent."""
    made = client.post("/v1/connect/sessions", json={"redirect_url": DONE, "oauth_app_id": app_id, **order})
    assert made.status_code == 201, made.text
    url = made.json()["url"]
    with httpx2.Client(timeout=30) as browser:
        assert browser.get(url).status_code == 200
        leads_to = left_for(browser.post(url, data={"app": app_id}).text)
        back = browser.get(leads_to).headers["Location"]
        return outcome_of(browser.get(back))["account_id"]


class Account:
    """What the API says of an account."""

    def __init__(self, client: httpx2.Client, account_id: str) -> None:
        self._client = client
        self.id = account_id
        self.path = f"/v1/accounts/{account_id}"

    def status(self) -> tuple[str, str]:
        body = self._client.get(self.path).json()
        return body["status"], body["sync"]["status"]

    def subjects(self) -> set[str]:
        return {one["subject"] for one in self._client.get(f"{self.path}/messages").json()["items"]}

    def reconnect(self) -> None:
        assert self._client.post(f"{self.path}/reconnect").status_code == 200

    def events(self) -> list[str]:
        """Types of all events about the connection so far."""
        answer = self._client.get(f"{self.path}/events", params={"after": "earliest", "limit": 500})
        types = [one["event"]["type"] if "event" in one else one["type"] for one in answer.json()["items"]]
        return [one for one in types if one.startswith("account.")]


def decoded(word: str) -> str:
    """What a word says, if it is base64."""
    try:
        return base64.b64decode(word + "==").decode("ascii", "replace")
    except ValueError:
        return ""


@pytest.fixture
def account(client: httpx2.Client, app_id: str, token_dovecot: Dovecot, user: DovecotUser) -> Account:
    token_dovecot.deliver(message("First"), user.name)
    account = Account(client, connected(client, app_id))
    eventually(account.status, ("ready", "live"))
    return account


def test_mail_is_read_and_sent_by_consent(
    client: httpx2.Client, account: Account, token_sink: SmtpSink, user: DovecotUser
) -> None:
    eventually(account.subjects, {"First"})
    order = {"to": [{"name": "Bob", "address": "bob@example.org"}], "subject": "Sent by token", "text": "x"}
    sent = client.post(f"{account.path}/send", json=order)

    assert sent.status_code == 202, sent.text
    (received,) = token_sink.wait_for(1)
    assert (received.user, received.recipients) == (user.name, ["bob@example.org"])


def test_a_token_that_expired_is_renewed_without_an_error_seen(
    account: Account, token_dovecot: Dovecot, user: DovecotUser, authority: AuthorizationServer
) -> None:
    renewals = authority.asked["refresh_token"]
    authority.end_access()
    account.reconnect()
    token_dovecot.deliver(message("After"), user.name)

    eventually(account.subjects, {"First", "After"})
    eventually(account.status, ("ready", "live"))
    assert authority.asked["refresh_token"] == renewals + 1
    assert set(account.events()) == {"account.connected"}


def test_a_revoked_consent_asks_for_a_new_one_and_heals_by_it(
    client: httpx2.Client,
    app_id: str,
    account: Account,
    token_dovecot: Dovecot,
    user: DovecotUser,
    authority: AuthorizationServer,
) -> None:
    authority.revoke(user.name)
    account.reconnect()
    eventually(account.status, ("auth_required", "down"))
    assert account.events()[-1] == "account.auth_required"
    asked = authority.asked["refresh_token"]
    time.sleep(2)
    assert authority.asked["refresh_token"] == asked
    token_dovecot.deliver(message("Meanwhile"), user.name)

    assert connected(client, app_id, account_id=account.id) == account.id

    eventually(account.status, ("ready", "live"))
    eventually(account.subjects, {"First", "Meanwhile"})
    assert account.events()[-1] == "account.connected"


def test_a_consent_that_ends_while_a_connection_lives_is_told_when_anyone_needs_a_token(
    client: httpx2.Client, account: Account, user: DovecotUser, authority: AuthorizationServer
) -> None:
    authority.revoke(user.name)

    order = {"to": [{"address": "bob@example.org"}], "subject": "Sent in vain", "text": "x"}
    assert client.post(f"{account.path}/send", json=order).status_code == 202

    eventually(account.status, ("auth_required", "down"))
    assert account.events() == ["account.connected", "account.auth_required"]


def test_a_mail_server_that_declines_every_token_makes_requests_cost_the_authorization_server_nothing(
    client: httpx2.Client, account: Account, authority: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "_introspected", lambda _token: {"active": False})
    account.reconnect()
    eventually(account.status, ("auth_required", "down"))
    asked = authority.asked["refresh_token"]
    (message,) = client.get(f"{account.path}/messages").json()["items"]

    for _ in range(3):
        answer = client.get(f"{account.path}/messages/{message['id']}/raw")
        assert (answer.status_code, answer.json()["code"]) == (424, "mail_login_refused")

    assert authority.asked["refresh_token"] == asked


def test_a_new_refresh_token_by_the_api_heals_too(
    client: httpx2.Client, app_id: str, account: Account, user: DovecotUser, authority: AuthorizationServer
) -> None:
    authority.revoke(user.name)
    account.reconnect()
    eventually(account.status, ("auth_required", "down"))
    consent = {"oauth_app_id": app_id, "refresh_token": authority.consent(user.name)}

    answer = client.patch(account.path, json={"oauth": consent})

    assert answer.status_code == 200, answer.text
    eventually(account.status, ("ready", "live"))


def test_an_account_is_added_by_a_refresh_token(
    client: httpx2.Client, app_id: str, user: DovecotUser, authority: AuthorizationServer
) -> None:
    order = {"kind": "imap", "email": user.name, "oauth": {"oauth_app_id": app_id}}
    consent = {"oauth_app_id": app_id, "refresh_token": authority.consent(user.name)}
    refused = client.post("/v1/accounts", json=order | {"oauth": consent | {"refresh_token": "none"}})
    added = client.post("/v1/accounts", json=order | {"oauth": consent})

    assert (refused.status_code, refused.json()["code"]) == (424, "mail_login_refused")
    assert added.status_code == 201, added.text
    assert "canary" not in added.text
    eventually(Account(client, added.json()["id"]).status, ("ready", "live"))


def test_a_pop3_account_lives_by_consent_too(
    client: httpx2.Client, app_id: str, token_dovecot: Dovecot, user: DovecotUser, authority: AuthorizationServer
) -> None:
    token_dovecot.deliver(message("By POP3"), user.name)
    consent = {"oauth_app_id": app_id, "refresh_token": authority.consent(user.name)}
    added = client.post("/v1/accounts", json={"kind": "pop3", "email": user.name, "oauth": consent})
    assert added.status_code == 201, added.text
    account = Account(client, added.json()["id"])

    eventually(account.subjects, {"By POP3"})
    authority.revoke(user.name)
    client.post(f"{account.path}/pop3/fetch")
    eventually(lambda: account.status()[0], "auth_required")


@pytest.mark.parametrize(
    ("point", "rotates"), [("grant.kept", True), ("grant.answered", False)], ids=["rotated", "not rotated"]
)
def test_a_grant_survives_kill_9_while_it_is_renewed(
    gateway: Postgate, account: Account, authority: AuthorizationServer, point: str, rotates: bool
) -> None:
    """A rotated refresh token is lost in one moment alone: after the server's answer, before we could keep it."""
    authority.rotates = rotates
    gateway.stop()
    authority.end_access()

    with suppress(ServerFailed):  # it may die before it is ready
        gateway.start(fault_point=point)
    gateway.wait_until_dead()
    gateway.start()

    with gateway.client() as client:
        again = Account(client, account.id)
        eventually(again.status, ("ready", "live"))
        assert "account.auth_required" not in again.events()


def test_no_token_is_in_the_logs_or_the_data(
    gateway: Postgate,
    client: httpx2.Client,
    account: Account,
    authority: AuthorizationServer,
    user: DovecotUser,
    tmp_path: Path,
) -> None:
    assert client.post(f"{account.path}/log", json={}).status_code == 200
    authority.revoke(user.name)
    account.reconnect()
    eventually(account.status, ("auth_required", "down"))

    told = client.get(f"{account.path}/log").text
    assert "OAUTHBEARER" in told
    assert not any("canary" in text for text in [told, *map(decoded, re.findall(r"[A-Za-z0-9+/=_-]{24,}", told))])
    assert "canary" not in gateway.log_tail
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files if b"canary" in path.read_bytes()] == []
