"""Postgate itself as its users run it: a process with the demo, on free ports, that can be killed at a named point."""

from __future__ import annotations

import imaplib
import json
import os
import smtplib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from websockets.sync.client import ClientConnection, connect

from tests.servers.forked import ForkedPostgate, completed
from tests.servers.process import ServerFailed, ServerProcess, free_port
from tests.servers.tls import NO_AUTHORITIES

_PORTS = ("HTTP", "IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")
REQUEST_SECONDS = 30.0


PROGRAM = Path(sys.executable).with_name("postgate")


class Postgate:
    """`postgate demo` with its data in a folder. `settings` are POSTGATE_* without the prefix."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.program: Path | None = None
        """The program to run, where it isn't that of this environment, forked."""
        self._folder = folder
        self._settings = {f"{name}_PORT": str(free_port()) for name in _PORTS} | settings
        self._process: ServerProcess | None = None
        self._demo: dict[str, Any] = {}

    def start(self, fault_point: str | None = None) -> None:
        """Return when it says `ready`; with a fault point it dies there by SIGKILL."""
        log = self._folder / f"postgate-{free_port()}.log"
        faults = {} if fault_point is None else {"FAULT_POINT": fault_point}
        self._process = self._demo_process(log, faults)
        self._process.start()
        self._demo = json.loads(self.demo_file.read_text())

    def _demo_process(self, log: Path, settings: Mapping[str, str]) -> ServerProcess:
        environment, is_ready = self._environment(**settings), _says_ready(log)
        if self.program is None:
            return ForkedPostgate(["demo"], environment, is_ready=is_ready, log=log)
        return ServerProcess([str(self.program), "demo"], is_ready=is_ready, log=log, environment=environment)

    def _environment(self, **settings: str) -> dict[str, str]:
        settings = self._settings | {"DATA_DIR": str(self._folder / "data")} | settings
        return os.environ | NO_AUTHORITIES | {f"POSTGATE_{name}": value for name, value in settings.items()}

    def command(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command of the command line on the same data to its end."""
        return completed(words, self._environment(DOMAINS="demo.test"), stdin=stdin)

    def start_again(self, seconds: float = 30.0) -> None:
        """Start after a kill; a port that somebody took meanwhile for a moment is waited for."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.start()
            except ServerFailed as failure:
                if "already in use" not in str(failure) or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log_tail(self) -> str:
        return self._process.log_tail if self._process else ""

    def wait_until_dead(self, seconds: float = 20.0) -> None:
        """Wait for a fault point to be reached."""
        assert self._process is not None
        self._process.wait(seconds)

    @property
    def demo_file(self) -> Path:
        """The server key, users and ports of the demo."""
        return self._folder / "data" / "demo.json"

    @property
    def base_url(self) -> str:
        return str(self._demo["base_url"])

    @property
    def ports(self) -> dict[str, int]:
        ports: dict[str, int] = self._demo["ports"]
        return ports

    @property
    def key(self) -> str:
        return str(self._demo["server_key"])

    def user(self, name: str = "alice") -> dict[str, str]:
        """email, password, account_id"""
        found: dict[str, str] = next(one for one in self._demo["users"] if one["email"].startswith(name))
        return found

    def client(self, token: str | None = None) -> httpx2.Client:
        """An HTTP client with the server key, or with another token."""
        return httpx2.Client(
            base_url=self.base_url, headers={"Authorization": f"Bearer {token or self.key}"}, timeout=REQUEST_SECONDS
        )

    def account_path(self, name: str = "alice") -> str:
        return f"/v1/accounts/{self.user(name)['account_id']}"

    @contextmanager
    def stream(self, token: str | None = None) -> Iterator[ClientConnection]:
        """The WebSocket stream, after its `hello`."""
        url = self.base_url.replace("http", "ws", 1) + "/v1/stream"
        headers = {"Authorization": f"Bearer {token or self.key}"}
        with connect(url, additional_headers=headers, max_size=None) as socket:
            assert json.loads(socket.recv(10))["type"] == "hello"
            yield socket

    def imap(self, name: str = "alice") -> imaplib.IMAP4:
        connection = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=REQUEST_SECONDS)
        connection.login(self.user(name)["email"], self.user(name)["password"])
        return connection

    def deliver(self, content: bytes, name: str = "alice") -> None:
        """By SMTP, as mail from elsewhere."""
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], timeout=REQUEST_SECONDS) as connection:
            connection.sendmail("sender@example.com", [self.user(name)["email"]], content)


@contextmanager
def running_postgate(folder: Path, **settings: str) -> Iterator[Postgate]:
    """A demo that runs during the block; killed at its end."""
    server = Postgate(folder, **settings)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _says_ready(log: Path) -> Callable[[], bool]:
    return lambda: log.exists() and b"\nready\n" in log.read_bytes()
