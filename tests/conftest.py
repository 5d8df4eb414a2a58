"""Fixtures that start real servers, and their logs beside a failure."""

import os
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from app.db.migrate import migrate
from app.settings import Settings

from tests.servers.authorization_server import AuthorizationServer
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.servers.postgres import Postgres
from tests.servers.process import started
from tests.servers.smtp_sink import SmtpSink
from tests.servers.tls import TlsFiles, make_tls_files

TESTS = Path(__file__).parent
ORDER = ("e2e", "integration", "contract", "unit")
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 6 * 1024**3
"""How much a run may hold at once: databases, mail and the clusters of two test processes, with room to spare."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Put what tests write into memory where there is enough: no promise is about a disk that loses power."""
    if "TMPDIR" not in os.environ and _free_bytes(MEMORY) >= MEMORY_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose modules take longest, so that no test process is left alone with one at the end."""
    items.sort(key=lambda item: ORDER.index(item.path.relative_to(TESTS).parts[0]))


def _free_bytes(folder: Path) -> int:
    """The room in a file system in memory, no more than the machine's free memory; 0 where there is none."""
    try:
        room = os.statvfs(folder)
        available = Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]
    except (OSError, IndexError):
        return 0
    return min(room.f_bavail * room.f_frsize, int(available) * 1024) if os.access(folder, os.W_OK) else 0


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A test authority with a good, a wrong-host and an expired certificate."""
    return make_tls_files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def dovecot(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    """A private Dovecot, one for each test process; add a user for each test."""
    with started(Dovecot(tls, tmp_path_factory.mktemp("dovecot") / "dovecot.log")) as server:
        yield server


@pytest.fixture
def authorization_server() -> Iterator[AuthorizationServer]:
    """An OAuth authorization server of this test alone."""
    with started(AuthorizationServer()) as server:
        yield server


@pytest.fixture(scope="module")
def authority() -> Iterator[AuthorizationServer]:
    """An OAuth authorization server for the tests of a module, which `token_dovecot` and `token_sink` ask."""
    with started(AuthorizationServer()) as server:
        yield server


@pytest.fixture(scope="module")
def token_dovecot(
    authority: AuthorizationServer, tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Dovecot]:
    """A Dovecot that takes access tokens of `authority`."""
    log = tmp_path_factory.mktemp("dovecot") / "dovecot.log"
    with started(Dovecot(tls, log, f"{authority.url}/introspect")) as server:
        yield server


@pytest.fixture
def token_sink(authority: AuthorizationServer, tls: TlsFiles) -> Iterator[SmtpSink]:
    """An SMTP server of this test alone that takes access tokens of `authority`."""
    with started(SmtpSink(tls, is_token_valid=authority.is_valid)) as sink:
        yield sink


@pytest.fixture(scope="session")
def courier(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courier]:
    """A private Courier, one for each test process; add a user for each test."""
    with started(Courier(tls, tmp_path_factory.mktemp("courier") / "courier.log")) as server:
        yield server


@pytest.fixture(scope="session")
def cyrus(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cyrus]:
    """A private Cyrus, one for each test process; add a user for each test."""
    with started(Cyrus(tls, tmp_path_factory.mktemp("cyrus") / "cyrus.log")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A private PostgreSQL cluster, one for each test process."""
    with started(Postgres(tmp_path_factory.mktemp("postgres") / "postgres.log")) as server:
        yield server


@pytest.fixture(scope="session")
def prepared_database(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database that has the schema and no rows: a template."""
    name = postgres.create_database()
    settings = Settings(data_dir=tmp_path_factory.mktemp("template"), database_url=postgres.url(name))
    with ThreadPoolExecutor(1) as thread:  # the fixture may be wanted within an event loop
        thread.submit(migrate, settings).result()
    return name


@pytest.fixture
def postgres_url(postgres: Postgres, prepared_database: str) -> Iterator[str]:
    """The address of a database of this test alone, as SQLAlchemy wants it (`postgresql+asyncpg://…`).

    It has the newest schema and no rows.
    """
    name = postgres.create_database(prepared_database)
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def empty_postgres_url(postgres: Postgres) -> Iterator[str]:
    """The address of a database of this test alone that has no schema yet."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def smtp_sink(tls: TlsFiles) -> Iterator[SmtpSink]:
    """An SMTP server of this test alone that keeps what it gets; its fields and `drop` make it misbehave."""
    with started(SmtpSink(tls)) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log of each server that a failed test used."""
    report = yield
    if report.failed:
        for name, fixture in getattr(item, "funcargs", {}).items():
            if tail := getattr(fixture, "log_tail", ""):
                report.sections.append((f"Log of {name}", tail))
    return report
