"""The same filter finds the same messages as Dovecot's own SEARCH, before the full-text index is filled and after."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from app.mail.types import AccountId
from app.mailstore.texts import TextIndex
from app.services.access.callers import Scope
from app.workers.text_index_quota import TextLimits
from app.workers.text_indexer import TextIndexer, TextReader

from tests.gateway import Gateway, open_gateway
from tests.search_corpus import Corpus, filters
from tests.servers.dovecot import Dovecot
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, OtherClient, add_remote_account, imap_backend

MESSAGES = 150
FILTERS = [100, pytest.param(1_000, marks=pytest.mark.soak)]
LIMITS = TextLimits(256 * 1024, 64 * 1024 * 1024)
NUMBER = re.compile(r"<(\d+)\.search@")


@dataclass
class Searched:
    """An account that is searched through REST; what it finds is told by the numbers in the Message-IDs."""

    gateway: Gateway
    account_id: AccountId

    async def find(self, filter: dict[str, Any]) -> set[int]:
        client = self.gateway.client(await self.gateway.token(self.account_id, scopes=[Scope.MAIL_READ]))
        answer = await client.post(
            f"/v1/accounts/{self.account_id}/messages/search", json={"filter": filter, "limit": 500}
        )
        assert answer.status_code == 200, answer.text
        return {number(one["message_id_header"]) for one in answer.json()["items"]}


def number(header: str) -> int:
    found = NUMBER.search(header)
    assert found is not None
    return int(found[1])


@asynccontextmanager
async def open_remote(
    folder: Path, dovecot: Dovecot, tls: TlsFiles, mail: Sequence[bytes]
) -> AsyncIterator[tuple[Searched, Followed, OtherClient]]:
    """An account on Dovecot with this mail, whose first sync is over and whose texts are read when it is followed."""
    user = dovecot.add_user()
    async with open_gateway(folder) as gateway:
        harness = gateway.harness
        account_id = await add_remote_account(harness, user.name)
        backend = imap_backend(account_id, harness, dovecot, tls, user)
        gateway.backends.given[account_id] = backend
        with OtherClient(dovecot, user) as client:
            for one in mail:
                client.append("INBOX", one)
            client.select()
            followed = Followed(harness, account_id, backend)
            async with followed.following():
                await followed.until_live()
            yield Searched(gateway, account_id), followed, client
        await backend.close()


def bare(client: OtherClient, program: str) -> set[int]:
    """What Dovecot finds itself: numbers, which are UIDs in a mailbox that was filled in order."""
    outcome, answer = client.imap.uid("SEARCH", program)
    assert outcome == "OK", (program, answer)
    return {int(uid) for uid in answer[0].split()}


def differences(
    asked: Sequence[tuple[dict[str, Any], str]], expected: Sequence[set[int]], found: Sequence[set[int]]
) -> list[tuple[str, set[int], set[int]]]:
    """What is missing and what is too much, by search program."""
    triples = zip(asked, expected, found, strict=True)
    return [(program, theirs - ours, ours - theirs) for (_, program), theirs, ours in triples if theirs != ours]


@pytest.mark.parametrize("count", FILTERS)
@pytest.mark.parametrize("whole_bytes", [1_000_000, 0], ids=["read-whole", "read-part-by-part"])
async def test_the_same_filter_finds_the_same_as_dovecot(
    tmp_path: Path, dovecot: Dovecot, tls: TlsFiles, whole_bytes: int, count: int
) -> None:
    corpus = Corpus(1)
    mail = [corpus.message(number) for number in range(1, MESSAGES + 1)]
    asked = list(islice(filters(corpus, 1), count))
    async with open_remote(tmp_path, dovecot, tls, mail) as (searched, followed, client):
        text_index = TextIndex(followed.harness.database)
        expected = [bare(client, program) for _, program in asked]

        assert (await text_index.coverage(followed.account_id))[0] == 0
        before = [await searched.find(filter) for filter, _ in asked]
        followed.texts = TextReader(followed.harness.reader, text_index, replace(LIMITS, whole_bytes=whole_bytes))
        async with followed.following():
            await followed.until(lambda: text_index.awaited(followed.account_id, 1), [])
        indexed, of = await text_index.coverage(followed.account_id)
        assert of == MESSAGES
        assert indexed >= MESSAGES * (0.8 if whole_bytes == 0 else 1)
        after = [await searched.find(filter) for filter, _ in asked]

    assert differences(asked, expected, before) == []
    assert differences(asked, expected, after) == []
    assert sum(map(bool, expected)) > count / 3


@pytest.mark.parametrize("count", FILTERS)
async def test_mail_that_lives_here_is_searched_the_same(tmp_path: Path, dovecot: Dovecot, count: int) -> None:
    corpus = Corpus(2)
    mail = [corpus.message(number) for number in range(1, MESSAGES + 1)]
    asked = list(islice(filters(corpus, 2), count))
    user = dovecot.add_user()
    with OtherClient(dovecot, user) as client:
        for one in mail:
            client.append("INBOX", one)
        client.select()
        expected = [bare(client, program) for _, program in asked]
    async with open_gateway(tmp_path) as gateway:
        harness = gateway.harness
        account_id = await harness.add_account("me@demo.test")
        inbox = await harness.mailbox(account_id)
        for one in mail:
            await harness.store.add(account_id, inbox.id, [(await harness.store.keep(one), frozenset(), None)])
        searched = Searched(gateway, account_id)

        before = [await searched.find(filter) for filter, _ in asked]
        text_index = TextIndex(harness.database)
        await TextIndexer(
            harness.index, harness.reader, text_index, gateway.backends, TextReader(harness.reader, text_index, LIMITS)
        ).fill()
        after = [await searched.find(filter) for filter, _ in asked]

    assert differences(asked, expected, before) == []
    assert differences(asked, expected, after) == []
