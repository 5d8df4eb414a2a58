"""The origins of tokens: known to every process from the moment of the commit, until a day after the token's end."""

from __future__ import annotations

import pytest
from app.db import directory
from app.db import origins as origin_rows
from app.db import tokens as token_rows
from app.db.session import Database
from app.errors import Unavailable
from app.mail.identifiers import now_ms
from app.services.access import origins
from app.services.access.callers import ACCOUNT_SCOPES, Caller, Scope, TokenKind
from app.services.access.origins import ENDED_MS, KnownOrigins
from app.services.access.tokens import TokenOrder, Tokens

from tests.contract.stores import Stores

PAGE = "https://app.example.com"
ADMIN = Caller(token_id="tok_admin", kind=TokenKind.SERVER, scopes=frozenset(Scope))  # type: ignore[arg-type]


async def _order(stores: Stores, *allowed: str) -> TokenOrder:
    account_id = await stores.add_account()
    return TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(account_id,), origins=allowed)


async def test_a_new_origin_is_known_at_once_to_a_process_that_did_not_make_its_token(stores: Stores) -> None:
    tokens, elsewhere = Tokens(stores.database, stores.bus), KnownOrigins(stores.database, stores.bus)
    assert not await elsewhere.knows(PAGE)

    await tokens.create(await _order(stores, PAGE, "https://other.example"))

    assert await elsewhere.knows(PAGE)
    assert await elsewhere.knows("https://other.example")
    assert not await elsewhere.knows("https://app.example.co")


async def test_an_origin_of_a_token_that_was_ended_is_known_for_a_day(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = Tokens(stores.database, stores.bus)
    record, _ = await tokens.create(await _order(stores, PAGE))
    await tokens.revoke(record.id, ADMIN)

    assert await KnownOrigins(stores.database, stores.bus).knows(PAGE)
    monkeypatch.setattr(origins, "now_ms", lambda: now_ms() + ENDED_MS + 1000)
    assert not await KnownOrigins(stores.database, stores.bus).knows(PAGE)


async def test_an_origin_of_a_token_that_expired_is_known_for_a_day(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, _ = await Tokens(stores.database, stores.bus).create(await _order(stores, PAGE))
    expires_at_ms = record.caller.expires_at_ms
    assert expires_at_ms is not None

    monkeypatch.setattr(origins, "now_ms", lambda: expires_at_ms + ENDED_MS - 1)
    assert await KnownOrigins(stores.database, stores.bus).knows(PAGE)
    monkeypatch.setattr(origins, "now_ms", lambda: expires_at_ms + ENDED_MS + 1)
    assert not await KnownOrigins(stores.database, stores.bus).knows(PAGE)


async def test_the_origins_of_a_removed_account_are_known_for_a_day(stores: Stores) -> None:
    order = await _order(stores, PAGE)
    await Tokens(stores.database, stores.bus).create(order)
    assert order.account_ids is not None
    account_id = order.account_ids[0]

    await stores.database.write(lambda transaction: directory.remove(transaction, account_id))

    assert await KnownOrigins(stores.database, stores.bus).knows(PAGE)


async def test_origins_that_ended_long_ago_are_removed_from_the_database(stores: Stores) -> None:
    tokens = Tokens(stores.database, stores.bus)
    record, _ = await tokens.create(await _order(stores, PAGE))
    await tokens.revoke(record.id, ADMIN)

    await stores.database.write(lambda transaction: token_rows.remove_expired(transaction, now_ms() + 1000))

    assert not await KnownOrigins(stores.database, stores.bus).knows(PAGE)


async def test_origins_are_read_once_however_many_pages_ask(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    await Tokens(stores.database, stores.bus).create(await _order(stores, PAGE))
    known, reads = KnownOrigins(stores.database, stores.bus), 0
    read = origin_rows.known

    async def counted(database: Database, ended_after_ms: int, limit: int) -> frozenset[str]:
        nonlocal reads
        reads += 1
        return await read(database, ended_after_ms, limit)

    monkeypatch.setattr(origin_rows, "known", counted)
    answers = [await known.knows(f"https://{number}.example") for number in range(100)]

    assert (any(answers), await known.knows(PAGE), reads) == (False, True, 1)


async def test_a_token_for_origins_that_are_known_makes_no_process_read_again(stores: Stores) -> None:
    tokens, order = Tokens(stores.database, stores.bus), await _order(stores, PAGE)
    await tokens.create(order)
    elsewhere = KnownOrigins(stores.database, stores.bus)
    await elsewhere.knows(PAGE)
    generation = elsewhere._generation

    for _ in range(3):
        await tokens.create(order)

    assert elsewhere._generation == generation


async def test_where_the_database_does_not_answer_origins_stay_as_known_as_they_were(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, known = Tokens(stores.database, stores.bus), KnownOrigins(stores.database, stores.bus)
    await tokens.create(await _order(stores, PAGE))
    assert await known.knows(PAGE)

    async def down(*_: object) -> frozenset[str]:
        raise Unavailable

    monkeypatch.setattr(origin_rows, "known", down)
    known.forget()

    assert await known.knows(PAGE)
    assert not await known.knows("https://other.example")
