"""Commands beside a running server, and what a server that cannot start says."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.servers.forked import completed
from tests.servers.postgate import PROGRAM, Postgate
from tests.servers.process import free_port

pytestmark = pytest.mark.timeout(300)  # some tests run many commands
WAIT_SECONDS = 10.0
"""Less than the periodic check of open connections (20 s) and the ping of a stream (25 s)."""


def output(server: Postgate, *words: str) -> str:
    done = server.command(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def close_code(stream: ClientConnection) -> int | None:
    """How the server closes an open stream."""
    with suppress(ConnectionClosed):
        while True:
            stream.recv(WAIT_SECONDS)
    return stream.protocol.close_code


def test_a_token_revoked_on_the_command_line_ends_its_open_socket_and_opens_nothing(shared_postgate: Postgate) -> None:
    server = shared_postgate
    id_, secret = output(
        server, "token", "create", "--name", "phone", "--scope", "mail.read", "--scope", "push"
    ).split()
    with server.stream(secret) as stream:
        listed = {token["id"]: token for token in json.loads(output(server, "token", "list", "--json"))}
        assert (listed[id_]["name"], listed[id_]["scopes"]) == ("phone", ["mail.read", "push"])
        assert secret not in output(server, "token", "list")

        output(server, "token", "revoke", id_)

        assert close_code(stream) == 4401
    with server.client(secret) as client:
        assert client.get("/v1/accounts").json()["code"] == "token_revoked"
    again = server.command("token", "revoke", id_)
    assert (again.returncode, again.stderr) == (1, f"postgate: {id_}: no such token\n")


def test_a_mailbox_is_added_given_a_password_and_removed_beside_the_server(shared_postgate: Postgate) -> None:
    server, email = shared_postgate, "carol@demo.test"

    def signs_in(password: str) -> int:
        with server.client() as client:
            return client.post("/v1/session", json={"email": email, "password": password}).status_code

    added = output(server, "mailbox", "add", email, "--name", "Carol", "--password", "the first one").strip()
    rows = {row["email"]: row for row in json.loads(output(server, "mailbox", "list", "--json"))}
    assert (rows[email]["id"], rows[email]["name"]) == (added, "Carol")
    assert signs_in("the first one") == 201

    server.command("mailbox", "password", email, "--password-stdin", stdin="the second one\n")
    assert (signs_in("the first one"), signs_in("the second one")) == (401, 201)

    refused = server.command("mailbox", "remove", email, stdin="n\n")
    assert refused.returncode == 1
    assert signs_in("the second one") == 201
    output(server, "mailbox", "remove", email, "--yes")
    assert signs_in("the second one") == 401
    gone = server.command("mailbox", "remove", email, "--yes")
    assert (gone.returncode, gone.stderr) == (1, f"postgate: No embedded account has the address {email}\n")


def test_another_password_ends_the_sockets_of_the_old_one(shared_postgate: Postgate) -> None:
    server, email = shared_postgate, "dora@demo.test"
    output(server, "mailbox", "add", email, "--password", "the first one")
    with server.client() as client:
        pair = client.post("/v1/session", json={"email": email, "password": "the first one"}).json()
    with server.stream(pair["access_token"]) as stream:
        output(server, "mailbox", "password", email, "--password", "the second one")

        assert close_code(stream) == 4401


def started(tmp_path: Path, command: str = "serve", **settings: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end at once."""
    ports = {f"{name}_PORT": str(free_port()) for name in ("HTTP", "IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")}
    given = {
        f"POSTGATE_{name}": value for name, value in (ports | {"DATA_DIR": str(tmp_path / "data")} | settings).items()
    }
    return completed([command], os.environ | given)


@pytest.mark.parametrize("name", ["HTTP", "IMAP", "SMTP"])
def test_a_port_in_use_is_one_line_that_names_the_setting(tmp_path: Path, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = started(tmp_path, **{f"{name}_PORT": str(port)})

    line = f"postgate: POSTGATE_{name}_PORT: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert (ended.returncode, ended.stderr) == (1, line)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"DATA_DIR": "/dev/null/data"}, "/dev/null/data: Not a directory"),
        ({"BIND": "203.0.113.1"}, r"POSTGATE_HTTP_PORT: cannot listen on 203.0.113.1 port \d+: Cannot assign .*"),
        ({"DATABASE_URL": "postgresql://host:port/name"}, "POSTGATE_DATABASE_URL: invalid literal .*"),
        ({"TLS_CA_FILE": "/nothing"}, "POSTGATE_TLS_CA_FILE: /nothing cannot be used: .*"),
        ({"MASTER_KEY": "short"}, "The master key is not base64"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path, settings: dict[str, str], line: str) -> None:
    ended = started(tmp_path, **settings)

    assert ended.returncode == 1
    assert re.fullmatch(f"postgate: {line}\n", ended.stderr), ended.stderr


def test_a_misspelt_setting_is_warned_of_once_and_named_with_the_nearest(tmp_path: Path) -> None:
    ended = started(tmp_path, "demo", HTP_PORT="1", MASTER_KEY="short")

    warning = "postgate: warning: POSTGATE_HTP_PORT is not a setting and is ignored; did you mean POSTGATE_HTTP_PORT?\n"
    assert ended.stderr == f"{warning}postgate: The master key is not base64\n"


@pytest.mark.parametrize(("words", "expected"), [("postgate mail", "mailbox"), ("postgate token ", "revoke")])
def test_the_shell_completes_commands(words: str, expected: str) -> None:
    environment = {"_POSTGATE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [PROGRAM], env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert expected in done.stdout.split()
