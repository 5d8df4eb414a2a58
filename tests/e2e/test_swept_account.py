"""An account on a server without NOTIFY, by REST and the stream alone: mail in any mailbox is told within 5 s."""

from __future__ import annotations

import imaplib
import json
import time
from collections.abc import Iterator

import pytest

from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate
from tests.servers.process import started
from tests.sync_harness import mail

WAYS = {"idle": ["NOTIFY"], "sweep": ["NOTIFY", "LIST-EXTENDED", "LIST-STATUS"], "poll": ["NOTIFY", "IDLE"]}


@pytest.fixture(params=WAYS)
def mode(request: pytest.FixtureRequest) -> str:
    """How such a server can be watched."""
    return str(request.param)


@pytest.fixture
def proxy(mode: str, dovecot: Dovecot) -> Iterator[CuttingProxy]:
    with started(CuttingProxy(dovecot.imap_port, seed=1, hidden=WAYS[mode])) as proxy:
        yield proxy


def add_account(gateway: Postgate, port: int, user: DovecotUser) -> str:
    """Its id, once it is live."""
    login = {"host": "127.0.0.1", "port": port, "security": "none", "username": user.name, "password": user.password}
    with gateway.client() as client:
        answer = client.post("/v1/accounts", json={"email": user.name, "kind": "imap", "imap": login})
        assert answer.status_code == 201, answer.text
        account_id = str(answer.json()["id"])
        deadline = time.monotonic() + 20
        while (sync := client.get(f"/v1/accounts/{account_id}").json()["sync"])["status"] != "live":
            assert time.monotonic() < deadline, sync
            time.sleep(0.05)
    return account_id


def test_the_way_of_watching_is_visible_and_new_mail_in_any_mailbox_is_told_soon(
    gateway: Postgate, proxy: CuttingProxy, mode: str, dovecot: Dovecot
) -> None:
    user = dovecot.add_user()
    account_id = add_account(gateway, proxy.port, user)
    with gateway.client() as client:
        assert client.get(f"/v1/accounts/{account_id}").json()["sync"]["mode"] == mode

    with gateway.stream() as socket, imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as other:
        other.login(user.name, user.password)
        socket.send(json.dumps({"type": "subscribe", "sub_id": "s", "accounts": [account_id], "types": ["message.*"]}))
        assert json.loads(socket.recv(10))["type"] == "subscribed"
        for mailbox in ("INBOX", "Archive"):
            assert other.append(mailbox, "", "", mail(f"to {mailbox}"))[0] == "OK"
            told = json.loads(socket.recv(20))

            assert told["event"]["data"]["message"]["subject"] == f"to {mailbox}"
