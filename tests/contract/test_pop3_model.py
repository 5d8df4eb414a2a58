"""Random mail, other clients, cuts and new unique ids: an account over POP3 against what it must hold."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import orjson
import pytest
from app.errors import MailServerError
from app.mailstore.pop3_ledger import Pop3State

from tests.pop3_harness import Polled, open_polled
from tests.servers.scripted_pop3 import ScriptedPop3
from tests.sync_harness import mail

STEPS = 60


class Model:
    """What was delivered, and what became of it, by subject."""

    def __init__(self, seed: int, server: ScriptedPop3, account: Polled) -> None:
        self.random = random.Random(seed)
        self.server = server
        self.account = account
        self.numbers = 0
        self.expected: Counter[str] = Counter()
        """What must be here: all that was once fetched, and was not deleted here."""

    async def step(self) -> None:
        """One random thing that happens."""
        things = [self.deliver, self.deliver, self.copy, self.poll, self.cut, self.delete, self.reset, self.take_away]
        await self.random.choice(things)()

    async def deliver(self) -> None:
        self.numbers += 1
        self._add(f"m{self.numbers}", mail(f"m{self.numbers}", "x" * self.random.randrange(200)))

    async def copy(self) -> None:
        """The same message once more: nothing but its unique id tells them apart."""
        if self.server.messages:
            content = self.random.choice(self.server.messages)[1]
            self._add(_subject(content), content)

    def _add(self, subject: str, content: bytes) -> None:
        self.server.messages.append((f"id{self.random.getrandbits(60)}", content))
        self.expected[subject] += 1

    async def poll(self) -> None:
        await self.account.poll()

    async def cut(self) -> None:
        """A poll whose connection is lost somewhere."""
        self.server.cut_after_bytes = self.random.randrange(6_000)
        try:
            await self.account.poll()
        except MailServerError:
            pass
        finally:
            self.server.cut_after_bytes = None

    async def delete(self) -> None:
        messages = await self.account.messages()
        if messages:
            message = self.random.choice(messages)
            await self.account.backend.expunge([message])
            self.expected[orjson.loads(message.summary)["subject"]] -= 1

    async def take_away(self) -> None:
        """Another client removes a message that is there once."""
        await self.account.poll()
        counts = self.on_server()
        alone = [one for one in self.server.messages if counts[_subject(one[1])] == 1]
        if alone:
            self.server.messages.remove(self.random.choice(alone))

    async def reset(self) -> None:
        """The server numbers everything anew."""
        if self.random.random() < 0.3:
            await self.account.poll()  # what was not seen yet cannot be known again
            self.server.messages = [(f"r{self.random.getrandbits(60)}", one) for _, one in self.server.messages]

    def on_server(self) -> Counter[str]:
        return Counter(_subject(content) for _, content in self.server.messages)


def _subject(content: bytes) -> str:
    return next(line[9:].decode() for line in content.split(b"\r\n") if line.startswith(b"Subject: "))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", ["keep", "mirror_delete", "remove_after_download", "keep_last:3"])
async def test_nothing_is_lost_and_nothing_doubled_whatever_happens(tmp_path: Path, rule: str, seed: int) -> None:
    server = ScriptedPop3(capabilities=("USER", "UIDL", "TOP", "PIPELINING", "RESP-CODES"))
    async with server.serving() as login, open_polled(tmp_path, login, rule) as account:
        model = Model(seed, server, account)
        for _ in range(STEPS):
            await model.step()
        for _ in range(3):
            await account.poll()

        here = Counter(await account.subjects())
        assert here == +model.expected
        states = await account.states()
        summaries = [orjson.loads(one.summary) for one in await account.messages()]
        shown_there = Counter(one["subject"] for one in summaries if one["on_server"])
        assert shown_there <= model.on_server()
        assert Pop3State.LISTED not in states
        if rule == "remove_after_download":
            assert server.messages == []
        elif rule == "mirror_delete":
            assert model.on_server() == shown_there
        elif rule == "keep_last:3":
            assert len(server.messages) <= 3
        else:
            assert sum(model.on_server().values()) == sum(state in ("stored", "kept") for state in states)
