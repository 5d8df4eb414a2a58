"""Postgate in processes that are forked from one that has imported all of it.

A start takes a sixth of the processor time of a new interpreter's. What runs is the same: `postgate` with its words
and environment, in a session of its own, to be killed and asked to end as any process.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.process import ServerProcess

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "alembic.command",
        "app.api.application",
        "app.cli.serving",
        "app.demo",
        "app.runtime.descriptors",
        "app.runtime.http_server",
        "app.runtime.memory",
        "app.runtime.starting",
        "postgate.__main__",
        "sqlalchemy.ext.asyncio",
        "tests.servers.forked",
        "uvloop",
    ]
)
COMMAND_SECONDS = 60.0
_UMASK = 0o022
_NOTHING = Path(os.devnull)
_Files = tuple[Path, Path, Path]
"""stdin, stdout, stderr"""


class ForkedPostgate(ServerProcess):
    """`postgate` with these words as a ServerProcess."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], *, is_ready: Callable[[], bool], log: Path
    ) -> None:
        super().__init__(words, is_ready=is_ready, log=log)
        self._variables = environment

    def _launched(self) -> _Forked:
        self.log.touch()
        return _Forked(self._argv, self._variables, (_NOTHING, self.log, self.log))


def completed(
    words: Sequence[str], environment: Mapping[str, str], *, stdin: str = "", umask: int = _UMASK
) -> subprocess.CompletedProcess[str]:
    """`postgate` with these words, run to its end as subprocess.run does."""
    with TemporaryDirectory() as folder:
        given, printed, complained = files = (Path(folder) / "0", Path(folder) / "1", Path(folder) / "2")
        given.write_text(stdin)
        program = _Forked(words, environment, files, umask)
        try:
            code = program.wait(COMMAND_SECONDS)
        finally:
            program.send_signal(signal.SIGKILL)
        texts = [file.read_text() if file.exists() else "" for file in (printed, complained)]
    return subprocess.CompletedProcess(words, code, *texts)


class _Forked:
    """A process with what is used of subprocess.Popen."""

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], files: _Files, umask: int = _UMASK
    ) -> None:
        self._process = CONTEXT.Process(target=_run, args=(list(words), dict(environment), files, umask))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("postgate", timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _run(words: list[str], environment: dict[str, str], files: _Files, umask: int) -> None:
    os.setsid()
    os.chdir("/")
    for standard, file in enumerate(files):
        descriptor = os.open(file, os.O_RDONLY if standard == 0 else os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.umask(umask)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has put another in its place
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["postgate", *words]

    from app import faults

    importlib.reload(faults)  # it reads the environment when it is imported
    from postgate.__main__ import main

    main()
