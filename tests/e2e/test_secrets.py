"""A canary password, token or message text is in no log at any level, and no secret is in clear on disk."""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import secrets
import smtplib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.postgate import Postgate, running_postgate
from tests.servers.process import ServerFailed

PASSWORD = f"canary-{secrets.token_hex(8)}"
REMOTE_PASSWORD = f"canary-{secrets.token_hex(8)}"
TEXT = f"canary-{secrets.token_hex(8)}"
EMAIL = "carol@demo.test"


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgate, Path, list[str]]]:
    """A demo at the lowest log level after secrets went through every door, its folder, and the tokens it gave."""
    folder = tmp_path_factory.mktemp("canary")
    with running_postgate(folder, LOG_LEVEL="debug") as server:
        yield server, folder, use_every_door(server)


def use_every_door(server: Postgate) -> list[str]:
    with server.client() as client:
        account = {"kind": "embedded", "email": EMAIL, "name": "Carol", "password": PASSWORD}
        assert client.post("/v1/accounts", json=account).status_code == 201
        login = {"host": "127.0.0.1", "port": 1, "security": "none", "username": "me", "password": REMOTE_PASSWORD}
        remote = {"kind": "imap", "email": "me@example.com", "name": "Me", "imap": login, "smtp": login}
        assert client.post("/v1/accounts", params={"verify": "false"}, json=remote).status_code == 201
        assert client.post("/v1/accounts", json=remote).status_code in (424, 503)
        session = client.post("/v1/session", json={"email": EMAIL, "password": PASSWORD}).json()
        client.post("/v1/session", json={"email": EMAIL, "password": PASSWORD + "x"})
        ticket = client.post("/v1/stream/tickets", json={}).json()["ticket"]
        client.get("/v1/stream", params={"ticket": ticket})
        client.get("/v1/me/events", params={"ticket": ticket})
        client.post("/v1/session", content=b'{"email": "' + PASSWORD.encode())
    use_mail_protocols(server)
    return [server.key, session["access_token"], session["refresh_token"], ticket, use_a_link(server, session)]


def use_a_link(server: Postgate, session: dict[str, str]) -> str:
    """What is secret of a signed link that was opened, whole and cut."""
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=10) as imap:
        imap.login(EMAIL, PASSWORD)
        imap.append("INBOX", "", "", b"Subject: linked\r\n\r\n" + TEXT.encode())
    own = {"Authorization": f"Bearer {session['access_token']}"}
    with server.client() as client:
        message = client.get("/v1/me/messages", headers=own).json()["items"][0]
        url: str = client.post(f"/v1/me/messages/{message['id']}/links", json={"raw": True}, headers=own).json()["url"]
        assert [client.get(each).status_code for each in (url, url[:-1])] == [200, 404]
    return url.rpartition(".")[2]


def use_mail_protocols(server: Postgate) -> None:
    message = f"From: a@example.com\r\nTo: {EMAIL}\r\nSubject: {TEXT}\r\n\r\n{TEXT}\r\n"
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=10) as smtp:
        smtp.login(EMAIL, PASSWORD)
        smtp.sendmail(EMAIL, [EMAIL], message.replace("a@example.com", EMAIL))
    refused = contextlib.suppress(smtplib.SMTPAuthenticationError)
    with refused, smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=10) as smtp:
        smtp.login(EMAIL, PASSWORD + "x")
    imap = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=10)
    imap.login(EMAIL, PASSWORD)
    imap.select()
    imap.fetch("1", "(BODY[])")
    imap.search(None, "TEXT", TEXT)
    imap.logout()
    pop3 = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=10)
    pop3.user(EMAIL)
    pop3.pass_(PASSWORD)
    pop3.retr(1)
    pop3.quit()


def test_no_secret_and_no_message_text_is_in_the_logs(used: tuple[Postgate, Path, list[str]]) -> None:
    _, folder, tokens = used
    logs = b"".join(path.read_bytes() for path in folder.glob("*.log"))

    assert logs
    assert [one for one in (PASSWORD, REMOTE_PASSWORD, TEXT, *tokens) if one.encode() in logs] == []


def test_no_secret_is_in_clear_in_the_database_its_log_or_beside_it(used: tuple[Postgate, Path, list[str]]) -> None:
    _, folder, tokens = used
    data = folder / "data"
    files = [path for path in data.rglob("*") if path.is_file() and path.name not in ("demo.json", "demo.env")]
    stored = {path: path.read_bytes() for path in files}

    assert any(path.name.endswith("-wal") for path in files)
    for secret in (PASSWORD, REMOTE_PASSWORD, *tokens):
        assert [path.name for path, content in stored.items() if secret.encode() in content] == []


def test_files_with_secrets_are_the_owners_alone(used: tuple[Postgate, Path, list[str]]) -> None:
    _, folder, _ = used

    for name in ("demo.json", "demo.env", "master.key"):
        assert stat.S_IMODE((folder / "data" / name).stat().st_mode) == 0o600


def test_no_error_and_no_metric_repeats_a_secret(used: tuple[Postgate, Path, list[str]]) -> None:
    server, _, tokens = used
    with server.client() as client:
        answers = [
            client.get("/metrics").text,
            client.get("/v1/accounts").text,
            client.get("/v1/tokens").text,
            client.post("/v1/accounts", json={"password": PASSWORD, "kind": PASSWORD}).text,
        ]

    assert [one for one in (PASSWORD, REMOTE_PASSWORD, TEXT, *tokens) if any(one in text for text in answers)] == []


def test_a_lost_master_key_is_a_clear_error(used: tuple[Postgate, Path, list[str]], tmp_path: Path) -> None:
    server, folder, _ = used
    server.stop()
    key = folder / "data" / "master.key"
    original = key.read_bytes()
    other = Postgate(tmp_path)
    other.start()
    other.stop()
    key.write_bytes((tmp_path / "data" / "master.key").read_bytes())
    try:
        with pytest.raises(ServerFailed, match=r"The master key [0-9a-f]+ is missing from"):
            server.start()
    finally:
        server.stop()
        key.write_bytes(original)
