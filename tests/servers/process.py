"""A server program under test control: started, awaited, stopped, its log at hand."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import pytest

START_DEADLINE_SECONDS = 90.0
"""A bound for a machine under load, not an assertion of speed; below the time limit of a test."""
STOP_DEADLINE_SECONDS = 10.0
_POLL_SECONDS = 0.02
_LOG_TAIL_BYTES = 8_000

_ports_given: set[int] = set()


class ServerFailed(RuntimeError):
    """A server did not start, or went away; the message ends with the tail of its log."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on, never the same one twice.

    It lies below Linux's ephemeral range (32768 and up), so no outgoing connection takes it while a server restarts.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port


def find_program(name: str, *folders: Path) -> str:
    """Return the path of a program; a missing one fails the test in CI and skips it elsewhere."""
    search = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=search)
    if found is None:
        lack(f"{name} is not installed: `make test` installs what the tests need")
    return found


def lack(reason: str) -> NoReturn:
    """Give up on a server that cannot run here: a failure in CI, a skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


class _Program(Protocol):
    """A process that was started: what is used of subprocess.Popen."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: signal.Signals, /) -> None: ...


class ServerProcess:
    """One server in the foreground of its own process group; `is_ready` is asked until it says so."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        is_ready: Callable[[], bool],
        log: Path,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._argv = list(argv)
        self._environment = environment
        self._is_ready = is_ready
        self._user = user
        self._running: _Program | None = None
        self.log = log
        atexit.register(self.kill)

    def start(self) -> None:
        """Start the program and return when it is ready; raises ServerFailed."""
        self._running = self._launched()
        try:
            self._await_ready()
        except ServerFailed:
            self.kill()
            raise

    def _launched(self) -> _Program:
        with self.log.open("ab") as sink:
            return subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd="/",
                env=self._environment,
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask the program to end, and end its whole group when it doesn't within the deadline."""
        if self._running is None:
            return
        self._running.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._running.wait(STOP_DEADLINE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the program and its children at once, as a power cut would."""
        if self._running is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running.pid, signal.SIGKILL)
        self._running.wait(STOP_DEADLINE_SECONDS)
        self._running = None

    @property
    def pid(self) -> int:
        """The process at the root of the server's tree, which must have been started."""
        assert self._running is not None
        return self._running.pid

    def wait(self, seconds: float) -> None:
        """Wait until the program has ended by itself; raises subprocess.TimeoutExpired."""
        if self._running is not None:
            self._running.wait(seconds)

    @property
    def is_running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._running is not None and self._running.poll() is None

    @property
    def log_tail(self) -> str:
        """The last kilobytes of the program's log."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while not self._is_ready():
            if not self.is_running:
                raise ServerFailed(f"{self._argv[0]} ended while starting\n{self.log_tail}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self._argv[0]} does not get ready\n{self.log_tail}")
            time.sleep(_POLL_SECONDS)


class ServerInFolder:
    """A server whose process and all of whose data are in a temporary folder of its own.

    All methods block; an async test calls those that take long by `asyncio.to_thread`.
    """

    _process: ServerProcess

    def __init__(self, name: str, parent: Path | None = None) -> None:
        """`parent`: where its folder is made; None: where all temporary files are."""
        self._folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))

    def start(self) -> None:
        """Start, and return when it is ready; raises ServerFailed."""
        self._process.start()

    def stop(self) -> None:
        """Stop in order: clients are told."""
        self._process.stop()

    def kill(self) -> None:
        """End all processes at once, as a power cut would."""
        self._process.kill()

    def restart(self) -> None:
        """Stop and start again on the same ports, with the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop and remove all data."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process at the root; all others are below it."""
        return self._process.pid

    @property
    def log_tail(self) -> str:
        """The end of what the server printed."""
        return self._process.log_tail


class _Startable(Protocol):
    def start(self) -> None: ...
    def close(self) -> None: ...


_Server = TypeVar("_Server", bound=_Startable)


@contextlib.contextmanager
def started(server: _Server) -> Iterator[_Server]:
    """Run a server during the block; it is closed even when it does not start."""
    try:
        server.start()
        yield server
    finally:
        server.close()


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
