"""Statements as the drivers get them."""

from __future__ import annotations

import sqlite3

import pytest
from app.db.session import is_one_of, json_list, prepare
from app.db.tables import MESSAGE
from sqlalchemy import and_, bindparam, create_engine, not_, or_, select
from sqlmodel import SQLModel


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_list_of_values_is_no_operand(dialect: str) -> None:
    """`x IN (…) = 1` would be right, and read the whole table."""
    one = is_one_of(MESSAGE.c.uid, bindparam("uids"))
    statement = select(MESSAGE.c.uid).where(MESSAGE.c.account_id == "a", and_(or_(one, MESSAGE.c.uid == 7), one))

    assert "= 1" not in prepare(statement, dialect).text
    assert "NOT" in prepare(select(MESSAGE.c.uid).where(not_(one)), "postgresql").text


def test_a_list_of_uids_is_found_by_the_index() -> None:
    engine = create_engine("sqlite://")
    SQLModel.metadata.create_all(engine)
    statement = select(MESSAGE.c.uid).where(
        MESSAGE.c.account_id == bindparam("account_id"),
        MESSAGE.c.mailbox_id == bindparam("mailbox_id"),
        is_one_of(MESSAGE.c.uid, bindparam("uids")),
    )
    prepared = prepare(statement, "sqlite")
    values = prepared.arguments({"account_id": "a", "mailbox_id": "m", "uids": json_list([1, 2])})

    connection = engine.raw_connection()
    driver = connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    plan = str(driver.execute(f"EXPLAIN QUERY PLAN {prepared.text}", tuple(map(str, values))).fetchall())
    connection.close()
    engine.dispose()

    assert "account_id=? AND mailbox_id=? AND uid=?" in plan
