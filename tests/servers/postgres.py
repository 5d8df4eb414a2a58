"""A private PostgreSQL: a cluster in a temporary folder, a fresh database for each test."""

import itertools
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers.process import ServerInFolder, ServerProcess, find_program, free_port

_COMMAND_SECONDS = 60
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "log_min_duration_statement": "1000",
}
DURABLE = {"synchronous_commit": "on"}
"""For tests that kill the server: an answered commit is in the operating system's cache, which outlives processes."""


class Postgres(ServerInFolder):
    """The cluster, owned by the user `postgres` when the tests run as root, for initdb refuses root."""

    host = "127.0.0.1"

    def __init__(self, log: Path, **changed_settings: str) -> None:
        self._numbers = itertools.count(1)
        self._user = "postgres" if os.geteuid() == 0 else None
        super().__init__("postgres")
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self.port = free_port()
        settings = [f"--{name}={value}" for name, value in (_SETTINGS | changed_settings).items()]
        self._process = ServerProcess(
            [_program("postgres"), "-D", str(self._data), "-k", str(self._folder), "-p", str(self.port), *settings],
            is_ready=self._is_ready,
            log=log,
            user=self._user,
        )

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Make the cluster on the first start; return when it accepts."""
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        super().start()

    def stop(self) -> None:
        """Stop at once but in order: open transactions are rolled back, clients are told."""
        self._process.stop(signal.SIGINT)

    def kill(self) -> None:
        """End every process at once by SIGKILL."""
        processes = self._processes()
        super().kill()
        _signal(processes, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop every process where it is: connections stay open, and nothing is answered."""
        _signal(self._processes(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let frozen processes go on."""
        _signal(self._processes(), signal.SIGCONT)

    def terminate_backends(self, database: str) -> None:
        """Cut every connection to a database, as an administrator does."""
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")

    def _processes(self) -> list[int]:
        """The process ids of the server, the parent first. Each backend is a session of its own."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [self.pid, *map(int, children.split())]

    def create_database(self, template: str = "template1", icu_locale: str | None = None) -> str:
        """Make a database like `template`, to which nobody may be connected, and return its name.

        `icu_locale` makes an empty one that sorts text as a language does, as the servers of most installs do.
        """
        name = f"test{next(self._numbers)}"
        if icu_locale is not None:
            locale = f"LOCALE_PROVIDER icu ICU_LOCALE '{icu_locale}'"
            self.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 {locale}')
        else:
            self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    @contextmanager
    def database_in(self, folder: Path) -> Iterator[str]:
        """A database whose tables are in a folder, which is made; the write-ahead log stays where it is."""
        folder.mkdir()
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        name = f"test{next(self._numbers)}"
        self.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
        self.execute(f"CREATE DATABASE {name} TABLESPACE {name}")
        try:
            yield name
        finally:
            self.drop_database(name)
            self.execute(f"DROP TABLESPACE {name}")

    def drop_database(self, name: str) -> None:
        """Remove a database, cutting whoever is still connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url(self, database: str, driver: str = "postgresql+asyncpg") -> str:
        """Return the database's address as SQLAlchemy wants it; with the driver `postgresql`, as asyncpg does."""
        return f"{driver}://postgres@{self.host}:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run one SQL statement outside the tests' own connections and return psql's bare output."""
        address = ["-h", self.host, "-p", str(self.port), "-U", "postgres", "-d", database]
        return self._run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *address, "-c", statement)

    def dump(self, database: str, *options: str) -> list[str]:
        """The lines of `pg_dump`."""
        address = ["-h", self.host, "-p", str(self.port), "-U", "postgres"]
        return self._run("pg_dump", *address, *options, database).splitlines()

    def _is_ready(self) -> bool:
        # it accepts connections a little before it serves them
        try:
            self._run("pg_isready", "-q", "-h", self.host, "-p", str(self.port))
        except subprocess.CalledProcessError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> str:
        try:
            done = subprocess.run(
                [_program(program), *arguments],
                check=True,
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                cwd="/",
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
            )
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise
        return done.stdout


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _program(name: str) -> str:
    """Return a PostgreSQL program; Debian keeps them out of PATH, in a folder for each version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    return find_program(name, *versions)


def _version(folder: Path) -> int:
    digits = re.match(r"\d+", folder.parent.name)
    return int(digits[0]) if digits else 0
