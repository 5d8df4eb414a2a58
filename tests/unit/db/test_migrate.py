"""The schema on SQLite: made and upgraded in one transaction, whatever cuts it short."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from app import faults
from app.db import migrate as migrations
from app.db.copies import COPIES_FOLDER, COPIES_KEPT
from app.db.migrate import SCHEMA_VERSION, SchemaError, migrate, open_database, sqlite_path
from app.settings import Settings
from sqlalchemy import create_engine, event

PROJECT = Path(__file__).resolve().parents[3]


class CutShort(Exception):
    pass


def settings_at(folder: Path) -> Settings:
    folder.mkdir(exist_ok=True)
    return Settings(data_dir=folder)


def as_before(settings: Settings, target: str, cut_after: int | None = None) -> bool:
    """Migrate as versions did that left transactions to the driver; False where it was cut short."""
    engine = create_engine(f"sqlite:///{sqlite_path(settings)}")
    statements = 0

    def count(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements == cut_after:
            raise CutShort

    config = Config(str(PROJECT / "alembic.ini"))
    try:
        with engine.begin() as connection:
            event.listen(connection, "before_cursor_execute", count)
            config.attributes["connection"] = connection
            config.attributes["transactional_ddl"] = False
            command.upgrade(config, target)
    except CutShort:
        return False
    finally:
        engine.dispose()
    return True


def rows_of(settings: Settings, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(sqlite_path(settings))) as connection:
        return connection.execute(statement).fetchall()


def schema(settings: Settings) -> set[tuple[object, ...]]:
    """Names of all tables, indexes and triggers, and of all columns."""
    objects = rows_of(settings, "SELECT type, name FROM sqlite_master")
    tables = [name for type_, name in objects if type_ == "table"]
    columns = [(table, *row[1:4]) for table in tables for row in rows_of(settings, f'PRAGMA table_info("{table}")')]
    return {*objects, *columns}


def version(settings: Settings) -> list[tuple[object, ...]]:
    return rows_of(settings, "SELECT version_num FROM alembic_version")


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[object, ...]]:
    settings = settings_at(tmp_path_factory.mktemp("newest"))
    migrate(settings)
    return schema(settings)


@pytest.fixture
def snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Copies of the data directory `tmp_path/data` before each statement of a migration: what kill -9 leaves there."""
    taken: list[Path] = []

    def snapshot(name: str) -> None:
        if name == "migration.statement":
            taken.append(tmp_path / f"killed-{len(taken)}")
            shutil.copytree(tmp_path / "data", taken[-1])

    monkeypatch.setattr(faults, "point", snapshot)
    yield taken
    monkeypatch.undo()


def add_account(settings: Settings) -> None:
    with closing(sqlite3.connect(sqlite_path(settings))) as connection, connection:
        connection.execute(
            "INSERT INTO account (id, kind, email, status, sync_status, sync_mode) "
            "VALUES ('a', 'imap', 'é', '', '', '')"
        )


@pytest.mark.slow
def test_a_first_start_killed_before_any_statement_leaves_an_empty_database(
    tmp_path: Path, snapshots: list[Path], newest: set[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(settings_at(tmp_path / "data"))
    monkeypatch.undo()

    assert len(snapshots) > 50
    for killed in snapshots:
        assert rows_of(Settings(data_dir=killed), "SELECT * FROM sqlite_master") == []
    for killed in snapshots[::20]:
        migrate(Settings(data_dir=killed))
        assert schema(Settings(data_dir=killed)) == newest


@pytest.mark.slow
def test_an_upgrade_killed_before_any_statement_leaves_the_old_version_whole(
    tmp_path: Path, snapshots: list[Path], newest: set[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_at(tmp_path / "data")
    as_before(settings, "0001")
    add_account(settings)
    before = schema(settings)

    migrate(settings)
    monkeypatch.undo()

    assert len(snapshots) > 30
    for killed in snapshots:
        old = Settings(data_dir=killed)
        assert (version(old), schema(old)) == ([("0001",)], before)
    for killed in (*snapshots[::15], tmp_path / "data"):
        old = Settings(data_dir=killed)
        migrate(old)
        assert (version(old), schema(old)) == ([(SCHEMA_VERSION,)], newest)
        assert rows_of(old, "SELECT email FROM account") == [("é",)]


@pytest.mark.slow
@pytest.mark.parametrize("cut_after", range(1, 60, 4))
def test_a_first_start_that_an_earlier_version_left_half_made_goes_on(
    tmp_path: Path, newest: set[tuple[object, ...]], cut_after: int
) -> None:
    settings = settings_at(tmp_path)
    as_before(settings, "0001", cut_after)

    migrate(settings)

    assert (version(settings), schema(settings)) == ([(SCHEMA_VERSION,)], newest)


@pytest.mark.slow
@pytest.mark.parametrize("old", ["0001", "0002", "0003"])
def test_an_upgrade_that_an_earlier_version_left_half_made_goes_on_wherever_it_was_cut(
    tmp_path: Path, newest: set[tuple[object, ...]], old: str
) -> None:
    before = settings_at(tmp_path / "before")
    as_before(before, old)
    add_account(before)
    left = set()
    for cut_after in range(1, 200):
        settings = Settings(data_dir=tmp_path / f"cut-{cut_after}")
        shutil.copytree(before.data_dir, settings.data_dir)
        is_whole = as_before(settings, "0004", cut_after)
        remains = frozenset(schema(settings))
        if remains not in left:  # a cut within the driver's transaction leaves what the cuts before it left
            left.add(remains)
            migrate(settings)
            assert (version(settings), schema(settings)) == ([(SCHEMA_VERSION,)], newest)
            assert rows_of(settings, "SELECT email FROM account") == [("é",)]
        if is_whole:
            break
    assert len(left) > 2


def test_what_the_user_added_to_the_database_survives_the_recovery(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    as_before(settings, "0003")
    with closing(sqlite3.connect(sqlite_path(settings))) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
        connection.execute("CREATE INDEX my_index ON message (date_ms)")
        connection.execute("CREATE TABLE departed (account_id TEXT)")

    migrate(settings)

    names = {name for _, name in rows_of(settings, "SELECT type, name FROM sqlite_master")}
    assert {"mine", "my_index", "departed_by_age"} <= names


def test_a_half_made_table_that_holds_rows_is_never_dropped(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    as_before(settings, "0004")
    add_account(settings)
    with closing(sqlite3.connect(sqlite_path(settings))) as connection, connection:
        connection.execute("DROP TABLE alembic_version")

    with pytest.raises(SchemaError, match="account holds rows"):
        migrate(settings)

    assert rows_of(settings, "SELECT email FROM account") == [("é",)]


def test_an_upgrade_keeps_a_copy_of_the_database_before_it(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    as_before(settings, "0002")
    add_account(settings)

    migrate(settings)

    copy = tmp_path / COPIES_FOLDER / "schema-0002.sqlite3"
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]
        assert connection.execute("SELECT email FROM account").fetchall() == [("é",)]
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_the_newest_copies_are_kept(tmp_path: Path) -> None:
    for old in ("0001", "0002", "0003"):
        (tmp_path / "postgate.sqlite3").unlink(missing_ok=True)
        as_before(settings_at(tmp_path), old)
        migrate(settings_at(tmp_path))

    names = sorted(path.name for path in (tmp_path / COPIES_FOLDER).iterdir())
    assert names == ["schema-0002.sqlite3", "schema-0003.sqlite3"]
    assert len(names) == COPIES_KEPT


async def test_a_newer_database_is_refused_in_one_line_and_left_as_it_is(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    migrate(settings)
    with closing(sqlite3.connect(sqlite_path(settings))) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(SchemaError, match="schema 9999") as refused:
        await open_database(settings)

    assert "\n" not in str(refused.value)
    assert version(settings) == [("9999",)]


async def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    sqlite_path(settings).write_bytes(b"no database at all, but some text " * 100)

    with pytest.raises(SchemaError, match="cannot be read"):
        await open_database(settings)


def test_the_version_that_is_opened_without_alembic_is_the_newest_migration() -> None:
    names = sorted(path.name[:4] for path in (PROJECT / "alembic" / "versions").glob("[0-9]*.py"))

    assert names[-1] == SCHEMA_VERSION


def add_row(settings: Settings, table: str, **values: object) -> None:
    """A row with these values, and zeros and empty texts in the columns that need one."""
    for _, name, kind, needs_value, default, _ in rows_of(settings, f'PRAGMA table_info("{table}")'):
        if needs_value and default is None:
            values.setdefault(str(name), 0 if "INT" in str(kind) or kind == "BOOLEAN" else "")
    names = ", ".join(values)
    with closing(sqlite3.connect(sqlite_path(settings))) as connection, connection:
        marks = ", ".join("?" * len(values))
        connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", list(values.values()))


def test_an_upgrade_has_messages_with_an_empty_preview_read_again(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    as_before(settings, "0010")
    for number, (account, preview) in enumerate([("imap", ""), ("imap", "words"), ("embedded", "")], start=1):
        add_row(settings, "account", id=f"{account}{number}", kind=account)
        place = {"account_id": f"{account}{number}", "id": "m", "mailbox_id": "b", "uid": number}
        add_row(settings, "message", **place, preview=preview, text_state=1)
        add_row(settings, "search_text", id=number, account_id=f"{account}{number}", message_id="m", shown=b"")

    migrate(settings)

    assert rows_of(settings, "SELECT account_id, preview, text_state FROM message ORDER BY uid") == [
        ("imap1", None, 0),
        ("imap2", "words", 1),
        ("embedded3", "", 0),
    ]
    assert rows_of(settings, "SELECT account_id FROM search_text") == [("imap2",)]


def test_the_folder_of_a_copy_is_its_owners_alone(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    as_before(settings, "0002")

    migrations.migrate(settings)

    folder = tmp_path / COPIES_FOLDER
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())] == [0o700, 0o600]
