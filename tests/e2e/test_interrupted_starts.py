"""A first start and every upgrade on PostgreSQL, interrupted after any statement: the next start goes on."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from app.db.migrate import SCHEMA_VERSION, connected
from sqlalchemy import Connection, text

from tests import starts
from tests.servers.postgres import Postgres
from tests.servers.statement_proxy import StatementProxy

PROJECT = Path(__file__).resolve().parents[2]
SECONDS = 60
EMPTY = "an empty database"
REVISIONS = [f"{number:04d}" for number in range(1, int(SCHEMA_VERSION))]
SAMPLES = 5
ROWS = """
INSERT INTO account (id, kind, address, status, sync_status, sync_mode, last_seq, created_at_ms) VALUES
    ('acc_1', 'embedded', 'alice@demo.test', 'connected', 'idle', 'idle', 3, 1),
    ('acc_2', 'imap', NULL, 'connected', 'idle', 'idle', 7, 2);
INSERT INTO mailbox (account_id, id, path, origin_name, role, uid_validity, uid_next,
                     is_subscribed, is_selectable, is_complete) VALUES
    ('acc_1', 'mbx_1', 'INBOX', 'INBOX', 'inbox', 1, 3, true, true, true),
    ('acc_2', 'mbx_2', 'INBOX', 'INBOX', 'inbox', 9, 8, true, true, true);
INSERT INTO message (account_id, id, mailbox_id, uid, modseq, version, thread_id, has_attachments, subject_folded,
                     summary) VALUES
    ('acc_1', 'msg_1', 'mbx_1', 1, 2, 2, 'thr_1', false, 'straße', 'x'),
    ('acc_1', 'msg_2', 'mbx_1', 2, 3, 3, 'thr_2', true, 'ΣΊΣΥΦΟΣ', 'y'),
    ('acc_2', 'msg_3', 'mbx_2', 7, 7, 7, 'thr_3', false, 'plain', 'z');
INSERT INTO event (account_id, seq, type, subject, body) VALUES ('acc_1', 3, 'message.created', 'msg_2', 'b');
INSERT INTO idempotency (scope, key, payload_hash, is_encrypted) VALUES ('s', 'k', 'h', false);
INSERT INTO token (id, kind, secret_hash, is_used) VALUES ('tok_1', 'server', 'hash', false);
"""
"""What an installation of the first version held."""


@dataclass
class Starts:
    """Starts on copies of old databases, and how each of these looks after a start that nothing disturbed."""

    postgres: Postgres
    folder: Path
    templates: dict[str, str] = field(default_factory=dict)
    undisturbed: dict[str, tuple[list[str], int]] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self, revision: str) -> str:
        """The name of a database as an older version left it."""
        if revision not in self.templates:
            self.templates[revision] = self._made(revision)
        return self.postgres.create_database(self.templates[revision])

    def _made(self, revision: str) -> str:
        name = self.postgres.create_database()
        if revision != EMPTY:
            settings = starts.settings_of(self.postgres.url(name), self.folder)
            connected(settings, lambda connection: _make_old(connection, revision))
        return name

    def new_data(self) -> Path:
        return self.folder / str(next(self._numbers))

    def expected(self, revision: str) -> tuple[list[str], int]:
        """The dump after a start that nothing disturbed, and how many statements that start made."""
        if revision not in self.undisturbed:
            name = self.new_database(revision)
            with StatementProxy(self.postgres.url(name)) as proxy:
                process = starts.command(proxy.url, self.new_data())
                assert run(process) == 0
            self.undisturbed[revision] = self.dump(name), proxy.statements
            self.postgres.drop_database(name)
        return self.undisturbed[revision]

    def dump(self, name: str) -> list[str]:
        """Schema and rows in an order of their own, without rows that hold times and numbers by chance."""
        assert self.postgres.execute("SELECT count(*) FROM installation", name).strip() == "1"
        return sorted(
            line
            for line in self.postgres.dump(
                name, *(f"--exclude-table-data={table}" for table in ("installation", "commit_mark", "lease"))
            )
            if not line.startswith(("--", "\\"))
        )


def _make_old(connection: Connection, revision: str) -> None:
    config = Config(str(PROJECT / "alembic.ini"))
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    for statement in ROWS.split(";\n"):
        connection.execute(text(statement))
    command.upgrade(config, revision)


def run(process: ForkServerProcess) -> int | None:
    """Its exit code."""
    process.start()
    process.join(SECONDS)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    return code


@pytest.fixture(scope="module")
def all_starts(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Starts:
    return Starts(postgres, tmp_path_factory.mktemp("starts"))


Interrupt = Callable[[Starts, str, int], list[str]]


def kill(all_starts: Starts, revision: str, statement: int) -> list[str]:
    """Kill a start after a statement and start again: what is wrong then."""
    name, data = all_starts.new_database(revision), all_starts.new_data()
    with StatementProxy(all_starts.postgres.url(name), strike_after=statement) as proxy:
        process = starts.command(proxy.url, data)
        proxy.strike = process.kill
        code = run(process)
    again = run(starts.command(all_starts.postgres.url(name), data))
    return _wrong(all_starts, revision, name, [(code, -signal.SIGKILL), (again, 0)], statement)


def cut(all_starts: Starts, revision: str, statement: int) -> list[str]:
    """Cut the connection after a statement, and let the same process go on: what is wrong then."""
    name = all_starts.new_database(revision)
    with StatementProxy(all_starts.postgres.url(name), strike_after=statement) as proxy:
        code = run(starts.server(proxy.url, all_starts.new_data()))
    return _wrong(all_starts, revision, name, [(code, 0), (proxy.has_struck, True)], statement)


def _wrong(
    all_starts: Starts, revision: str, name: str, seen: list[tuple[object, object]], statement: int
) -> list[str]:
    wrong = [f"{statement}: {found}, not {expected}" for found, expected in seen if found != expected]
    if not wrong:
        found, expected = set(all_starts.dump(name)), set(all_starts.expected(revision)[0])
        wrong += [f"{statement}: missing {line}" for line in expected - found]
        wrong += [f"{statement}: extra {line}" for line in found - expected]
    all_starts.postgres.drop_database(name)
    return wrong


def interrupted(all_starts: Starts, revision: str, interrupt: Interrupt, samples: int | None) -> list[str]:
    """Interrupt a start after each statement, or after some: the first, the last, and those evenly between."""
    count = all_starts.expected(revision)[1]
    chosen = list(range(1, count + 1))
    if samples is not None:
        chosen = sorted({1 + (count - 1) * step // (samples - 1) for step in range(samples)})
    return [fault for statement in chosen for fault in interrupt(all_starts, revision, statement)]


@pytest.mark.parametrize("revision", [EMPTY, "0001", REVISIONS[-1]])
@pytest.mark.parametrize("interrupt", [kill, cut])
def test_a_start_that_was_interrupted_after_a_statement_is_followed_by_one_that_works(
    all_starts: Starts, revision: str, interrupt: Interrupt
) -> None:
    assert interrupted(all_starts, revision, interrupt, SAMPLES) == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("revision", [EMPTY, *REVISIONS])
@pytest.mark.parametrize("interrupt", [kill, cut])
def test_a_start_that_was_interrupted_after_any_statement_is_followed_by_one_that_works(
    all_starts: Starts, revision: str, interrupt: Interrupt
) -> None:
    assert interrupted(all_starts, revision, interrupt, None) == []


def test_every_upgrade_keeps_the_rows_of_the_first_version(all_starts: Starts) -> None:
    dumps = {revision: all_starts.expected(revision)[0] for revision in REVISIONS}

    assert all(dump == dumps["0001"] for dump in dumps.values())
    assert sum("msg_" in line for line in dumps["0001"]) >= 3
