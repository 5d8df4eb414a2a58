"""kill -9 while mail is fetched from a POP3 server and removed there: nothing is lost, nothing is there twice."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.pop3_harness import Maildrop, dovecot_maildrop
from tests.servers.dovecot import Dovecot
from tests.servers.postgate import Postgate
from tests.sync_harness import mail

SUBJECTS = ("one", "two", "three")
PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data of a gateway that follows an empty maildrop, and removes there what it fetched."""

    data: Path
    path: str
    maildrop: Maildrop


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, demo_data: Path, dovecot: Dovecot) -> Prepared:
    """Made once: each test leaves the maildrop as empty as it was."""
    folder = tmp_path_factory.mktemp("pop3")
    shutil.copytree(demo_data, folder / "data")
    maildrop = dovecot_maildrop(dovecot)
    server = Postgate(folder)
    server.start()
    try:
        with server.client() as client:
            path = f"/v1/accounts/{add_account(client, maildrop, 'remove_after_download')}"
            until_live(client, path)
        server.stop()
    finally:
        server.kill()
    return Prepared(folder / "data", path, maildrop)


@pytest.fixture
def gateway(tmp_path: Path, prepared: Prepared) -> Iterator[Postgate]:
    shutil.copytree(prepared.data, tmp_path / "data")
    server = Postgate(tmp_path)
    try:
        yield server
    finally:
        server.kill()


def add_account(client: httpx2.Client, maildrop: Maildrop, retention: str) -> str:
    login = maildrop.login
    server = {"host": login.host, "port": login.port, "security": "none", "username": login.username}
    order = {
        "kind": "pop3",
        "email": "me@mail.test",
        "pop3": {**server, "password": login.password, "retention": retention},
    }
    answer = client.post("/v1/accounts", json=order)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def until_live(client: httpx2.Client, path: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while client.get(path).json()["sync"]["status"] != "live":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def fetched(client: httpx2.Client, path: str) -> None:
    answer = client.post(f"{path}/pop3/fetch", params={"wait": 20})
    assert answer.status_code == 200, answer.text


def subjects(client: httpx2.Client, path: str) -> Counter[str]:
    items: list[dict[str, Any]] = client.get(f"{path}/messages").json()["items"]
    return Counter(one["subject"] for one in items)


@pytest.mark.parametrize(
    "point",
    [
        "pop3.retrieved:2",
        "blob.synced:2",
        "blob.placed:2",
        "pop3.stored",
        "pop3.pending",
        "pop3.deleted",
        "pop3.quit",
    ],
)
def test_a_crash_between_retr_and_dele_loses_and_doubles_nothing(
    gateway: Postgate, prepared: Prepared, point: str
) -> None:
    for subject in SUBJECTS:
        prepared.maildrop.deliver(mail(subject))

    gateway.start(fault_point=point)
    gateway.wait_until_dead()
    gateway.start()

    with gateway.client() as client:
        until_live(client, prepared.path)
        fetched(client, prepared.path)
        assert subjects(client, prepared.path) == dict.fromkeys(SUBJECTS, 1)
        assert prepared.maildrop.subjects() == []
