"""The first start and an upgrade, killed by SIGKILL or made by two processes at once: the next start goes on."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from app.db.migrate import SCHEMA_VERSION

from tests.servers.forked import ForkedPostgate, completed
from tests.servers.postgres import Postgres
from tests.servers.process import ServerProcess, free_port, started

PROGRAM = Path(sys.executable).with_name("postgate")
COMMAND = (str(PROGRAM), "seal")
"""A command that opens the database and does nothing else on an empty one."""
SECONDS = 60


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The settings of an install that was never started."""
    settings = {"POSTGATE_DATA_DIR": str(tmp_path / "data")}
    if request.param == "postgresql":
        settings["POSTGATE_DATABASE_URL"] = request.getfixturevalue("empty_postgres_url")
    return os.environ | settings


def start(environment: dict[str, str], fault_point: str = "", umask: int = 0o022) -> subprocess.CompletedProcess[str]:
    return completed(["seal"], environment | {"POSTGATE_FAULT_POINT": fault_point}, umask=umask)


@pytest.mark.parametrize("statement", [4, 60])
def test_a_first_start_that_was_killed_is_followed_by_one_that_works(
    environment: dict[str, str], statement: int
) -> None:
    killed = start(environment, f"migration.statement:{statement}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    done = start(environment)

    assert (done.returncode, done.stdout[:10]) == (0, "0 accounts"), done.stderr


@pytest.mark.parametrize("point", ["migration.copied", "migration.statement:40"])
def test_an_upgrade_that_was_killed_is_followed_by_one_that_works(
    tmp_path: Path, old_database: Path, point: str
) -> None:
    environment = os.environ | {"POSTGATE_DATA_DIR": str(tmp_path)}
    killed = start(environment, point)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert version(old_database) == "0001"

    done = start(environment)

    assert done.returncode == 0, done.stderr
    assert version(old_database) == SCHEMA_VERSION


@pytest.fixture
def old_database(tmp_path: Path) -> Path:
    """The database of an install of the first version in `tmp_path`."""
    path = tmp_path / "postgate.sqlite3"
    program = (
        "from alembic import command; from alembic.config import Config; from sqlalchemy import create_engine\n"
        f"engine = create_engine('sqlite:///{path}')\n"
        "with engine.begin() as connection:\n"
        "    config = Config('alembic.ini')\n"
        "    config.attributes['connection'] = connection\n"
        "    command.upgrade(config, '0001')\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).resolve().parents[2], timeout=SECONDS, check=True
    )
    return path


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_processes_that_start_at_once_on_an_empty_database_all_come_up(environment: dict[str, str]) -> None:
    processes = [
        subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)
    ]

    results = [(process.communicate(timeout=SECONDS), process.returncode) for process in processes]

    assert [code for _, code in results] == [0, 0], results


@pytest.mark.parametrize("environment", ["sqlite"], indirect=True)
def test_whatever_the_umask_directories_are_0700_and_files_0600(environment: dict[str, str]) -> None:
    assert start(environment, umask=0).returncode == 0

    data = Path(environment["POSTGATE_DATA_DIR"])
    entries = [data, *data.rglob("*")]
    assert {path.name for path in entries} >= {"postgate.sqlite3", "blobs", "incoming", "master.key"}
    wrong = [path for path in entries if stat.S_IMODE(path.stat().st_mode) != (0o700 if path.is_dir() else 0o600)]
    assert wrong == []


@pytest.mark.parametrize("environment", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("name", "mode"), [("", 0o755), ("postgate.sqlite3", 0o644)])
def test_serve_refuses_data_that_others_can_read_and_names_the_command_that_mends_it(
    environment: dict[str, str], name: str, mode: int
) -> None:
    start(environment)
    data = Path(environment["POSTGATE_DATA_DIR"])
    (data / name).chmod(mode)

    refused = subprocess.run(
        [str(PROGRAM), "serve"], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )

    assert refused.returncode == 1
    assert refused.stderr == f"refused: {data / name} can be accessed by other users; run: chmod -R go= {data}\n"
    subprocess.run(["chmod", "-R", "go=", data], check=True)
    assert stat.S_IMODE((data / name).stat().st_mode) & 0o077 == 0


def test_a_start_while_postgresql_is_down_waits_alive_and_not_ready_and_goes_on_when_it_is_back(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database, log = Postgres(tmp_path_factory.mktemp("postgres") / "postgres.log"), tmp_path / "postgate.log"
    port = free_port()
    settings = {f"POSTGATE_{name}_PORT": str(free_port()) for name in ("IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")}
    settings |= {"POSTGATE_HTTP_PORT": str(port), "POSTGATE_DATA_DIR": str(tmp_path / "data")}
    settings["POSTGATE_DATABASE_URL"] = database.url("postgres")
    process = ForkedPostgate(["serve"], os.environ | settings, is_ready=lambda: status(port, "live") == 200, log=log)
    process.start()
    try:
        answer = httpx2.get(f"http://127.0.0.1:{port}/v1/health/ready")
        assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
        assert answer.headers["Retry-After"]
        assert httpx2.get(f"http://127.0.0.1:{port}/v1/accounts").status_code == 503
        with started(database):
            deadline = time.monotonic() + SECONDS
            while status(port, "ready") != 200:
                assert process.is_running, process.log_tail
                assert time.monotonic() < deadline, process.log_tail
                time.sleep(0.2)
            process.stop()
    finally:
        process.kill()
    assert b"database_waited_for" in log.read_bytes()


@pytest.fixture
def waiting_demo(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Postgres]]:
    """A demo that was never started before, and waits for a PostgreSQL that is down."""
    database, log = Postgres(tmp_path_factory.mktemp("postgres") / "postgres.log"), tmp_path / "postgate.log"
    names = ("HTTP", "IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")
    settings = {f"POSTGATE_{name}_PORT": str(free_port()) for name in names}
    settings |= {"POSTGATE_DATA_DIR": str(tmp_path / "data"), "POSTGATE_DATABASE_URL": database.url("postgres")}
    process = ForkedPostgate(
        ["demo"], os.environ | settings, is_ready=lambda: b"database_waited_for" in log.read_bytes(), log=log
    )
    process.start()
    try:
        yield process, database
    finally:
        process.kill()


def test_a_first_start_of_the_demo_while_postgresql_is_down_waits_and_goes_on_when_it_is_back(
    waiting_demo: tuple[ServerProcess, Postgres],
) -> None:
    process, database = waiting_demo
    with started(database):
        deadline = time.monotonic() + SECONDS
        while b"\nready\n" not in process.log.read_bytes():
            assert process.is_running, process.log_tail
            assert time.monotonic() < deadline, process.log_tail
            time.sleep(0.2)
        process.stop()


def test_a_demo_that_waits_for_postgresql_ends_with_all_its_processes_when_asked_to(
    waiting_demo: tuple[ServerProcess, Postgres],
) -> None:
    process, _ = waiting_demo
    pid = process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children

    os.kill(pid, signal.SIGTERM)
    process.wait(SECONDS)

    assert [child for child in children if Path(f"/proc/{child}").exists()] == []


def status(port: int, name: str) -> int:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/v1/health/{name}", timeout=5).status_code
    except httpx2.HTTPError:
        return 0


def test_a_start_that_postgresql_does_not_let_in_ends_in_one_line(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.url("there_is_none")
    ended = start(os.environ | {"POSTGATE_DATA_DIR": str(tmp_path / "data"), "POSTGATE_DATABASE_URL": url})

    assert ended.returncode == 1
    assert ended.stderr == 'postgate: The database cannot be used: database "there_is_none" does not exist\n'
