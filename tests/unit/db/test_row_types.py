"""RowType: a class's fields name the columns of a table, once."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import app
import pytest
from app.db.directory import StoredAccount, StoredSecrets
from app.db.idempotency import StoredAnswer
from app.db.oauth import StoredApp, StoredGrant, StoredSession
from app.db.row_types import RowType
from app.db.syncing import FollowedAccount
from app.db.tables import OAUTH_GRANT


@dataclass(frozen=True, slots=True)
class Standing:
    version: int
    is_over: bool
    id: str


class StandingTuple(NamedTuple):
    version: int
    is_over: bool
    id: str


@pytest.mark.parametrize("kind", [Standing, StandingTuple])
def test_the_columns_are_the_fields_in_their_order(kind: type[Standing | StandingTuple]) -> None:
    assert RowType(kind, OAUTH_GRANT).columns == (OAUTH_GRANT.c.version, OAUTH_GRANT.c.is_over, OAUTH_GRANT.c.id)


@pytest.mark.parametrize("kind", [Standing, StandingTuple])
def test_a_flag_is_a_boolean_though_sqlite_returns_a_number(kind: type[Standing | StandingTuple]) -> None:
    read = RowType(kind, OAUTH_GRANT).read((7, 1, "grt_1"))

    assert (read.version, read.is_over, read.id) == (7, True, "grt_1")
    assert read.is_over is True


def test_a_field_without_a_column_is_refused_when_the_module_is_loaded() -> None:
    @dataclass(frozen=True)
    class Unknown:
        no_such_column: str

    with pytest.raises(KeyError):
        RowType(Unknown, OAUTH_GRANT)


def test_no_secret_is_in_the_text_of_a_stored_row() -> None:
    rows = (
        StoredAccount("acc", "imap", "", "", "", "", "", 0, "", b"hidden", "", 0),
        StoredApp("app", "", "", "", "", "", b"hidden", "", "", 0),
        StoredGrant("grt", "app", None, "", b"hidden", 0, is_over=False, version=0),
        StoredSession("con", "hidden", b"hidden", "hidden", 0),
        StoredSecrets("acc", b"hidden"),
        StoredAnswer("hash", 201, b"hidden", is_encrypted=True),
        FollowedAccount("acc", "", b"hidden", is_consent_over=None),
    )

    assert not [row for row in rows if "hidden" in repr(row)]


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["api", "backends", "cluster", "mirror", "servers", "services", "workers"])
def test_rows_of_the_database_end_at_db_and_mailstore(layer: str) -> None:
    """Above them a module names the fields of a type, and no positions."""
    modules = sorted((Path(app.__file__).parent / layer).rglob("*.py"))

    assert modules
    assert [module.name for module in modules if "Row" in _imported_from("app.db.session", module)] == []


def _imported_from(source: str, module: Path) -> set[str]:
    nodes = (node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom))
    return {name.name for node in nodes if node.module == source for name in node.names}
