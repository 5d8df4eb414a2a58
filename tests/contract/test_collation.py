"""On a PostgreSQL that sorts text as a language does, lists hold and order what they do elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from app.mail import filter as f
from app.mail.delta import Arrived, Delta, MailboxFound
from app.mail.types import AccountKind, Overview
from app.mailstore.reading.lists import Sort
from app.services.access.callers import Scope, TokenKind
from app.services.access.tokens import TokenOrder, Tokens

from tests.contract.stores import Stores, open_stores
from tests.servers.postgres import Postgres

WORDS = ["b", "A", "_x", "Z", "a", "~", "0", "-", "É", "é"]


@pytest.fixture
def linguistic_url(postgres: Postgres) -> Iterator[str]:
    name = postgres.create_database(icu_locale="en-US")
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql with ICU"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    url = None if request.param == "sqlite" else request.getfixturevalue("linguistic_url")
    async with open_stores(tmp_path, url) as opened:
        yield opened


async def test_tokens_are_listed_newest_first_page_by_page(stores: Stores) -> None:
    tokens = Tokens(stores.database, stores.bus)
    made = [(await tokens.create(TokenOrder(TokenKind.SERVER, frozenset({Scope.ADMIN}))))[0] for _ in range(3)]
    by = made[0].caller

    first, below_id = await tokens.list(by, 2)
    rest, _ = await tokens.list(by, 2, below_id)

    assert [one.id for one in (*first, *rest)] == sorted((one.id for one in made), reverse=True)  # ids sort by time


async def test_texts_sort_by_their_code_points_page_by_page(stores: Stores) -> None:
    account_id = await stores.add_account(AccountKind.IMAP)
    found = tuple(MailboxFound(name, name, "/", None, 7) for name in ("INBOX", *WORDS))
    await stores.index.apply(account_id, Delta(mailboxes_found=found))
    inbox = await stores.mailbox(account_id, "INBOX")
    arrived = [Arrived(inbox.id, uid, frozenset(), 0, 1, Overview(word), None) for uid, word in enumerate(WORDS, 1)]
    await stores.index.apply(account_id, Delta(arrived=tuple(arrived)))

    by_subject = Sort("subject", is_descending=False)
    first = await stores.reader.lists.search(account_id, f.All(()), sort=by_subject, limit=4)
    rest = await stores.reader.lists.search(account_id, f.All(()), sort=by_subject, limit=50, after=first[-1].anchor)

    values = [str(one.anchor.sort_value) for one in (*first, *rest)]
    assert values == sorted(values)
    assert len(values) == len(WORDS)
    paths = [one.path for one in await stores.reader.mailboxes.mailboxes(account_id)]
    assert paths == sorted(["INBOX", *WORDS])
