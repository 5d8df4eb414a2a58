"""A watch over servers in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.backends.imap.session import ClientSession
from app.backends.imap.watching import ImapWatch
from app.errors import GatewayError
from app.mail.backend import Signal
from app.mail.types import AccountId, Mailbox, MailboxId, Role

from tests.unit.backends.imap.scripted import Answer, ScriptedServer, scripted_session

ALL = "IMAP4rev1 IDLE NOTIFY LIST-EXTENDED LIST-STATUS"


def mailbox(name: str, uid_next: int = 4, total: int = 3, unread: int = 0) -> Mailbox:
    return Mailbox(
        id=MailboxId(f"mbx_{name}"),
        account_id=AccountId("acc_1"),
        path=name,
        role=Role.INBOX if name == "INBOX" else None,
        uid_validity=7,
        uid_next=uid_next,
        highest_modseq=0,
        total=total,
        unread=unread,
        is_subscribed=True,
        is_selectable=True,
        parent_id=None,
        origin_name=name,
        delimiter="/",
        is_complete=True,
    )


KNOWN = [mailbox("INBOX"), mailbox("Work")]


def status(name: str, uid_next: int = 4, total: int = 3) -> str:
    return f"* STATUS {name} (MESSAGES {total} UIDNEXT {uid_next} UIDVALIDITY 7 UNSEEN 0)\r\n"


def listed(*names: str, uid_next: int = 4, total: int = 3) -> str:
    lines = [f'* LIST (\\Subscribed) "/" {name}\r\n' + status(name, uid_next, total) for name in names]
    return "".join(lines) + "$ OK done\r\n"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def started(
    capabilities: str, script: Mapping[str, Answer] | None = None, clock: Clock | None = None
) -> tuple[ImapWatch, ScriptedServer, AsyncIterator[Signal]]:
    """A watch that has one connection."""
    session, server = scripted_session(answering(script), capabilities)
    watch = await ImapWatch.start(session, KNOWN, clock or Clock())
    return watch, server, watch.signals()


def answering(script: Mapping[str, Answer] | None = None) -> Mapping[str, Answer]:
    return {"LIST": listed("INBOX", "Work"), "IDLE": "+ idling\r\n", **(script or {})}


async def soon(signals: AsyncIterator[Signal]) -> Signal:
    """The next signal, once what is under way on the connection has ended: the clock may be set then."""
    async with asyncio.timeout(5):
        signal = await anext(signals)
    for _ in range(100):
        await asyncio.sleep(0)
    return signal


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError


async def names_until(signals: AsyncIterator[Signal], wanted: str = "") -> frozenset[str]:
    """The names that signals tell, the clock standing still, until one tells `wanted`; "" is of anything anywhere."""
    found: set[str] = set()
    async with asyncio.timeout(5):
        async for signal in signals:
            found |= signal.origin_names
            if wanted in signal.origin_names or not signal.origin_names:
                break
    assert not wanted or wanted in found
    return frozenset(found)


@dataclass(slots=True)
class Watched:
    """A watch that may have a second connection; `seconds` are the servers' sides of all that were opened."""

    watch: ImapWatch
    server: ScriptedServer
    clock: Clock
    seconds: list[ScriptedServer]
    followed: list[bool]
    refusals: list[GatewayError]
    """What becomes of the next second connections."""
    signals: list[Signal] = field(default_factory=list)
    _reading: asyncio.Task[None] | None = None

    @property
    def second(self) -> ScriptedServer:
        return self.seconds[-1]

    async def pass_by(self, seconds: float = 0.0) -> list[Signal]:
        """Let time pass, and all that is due then be done; the signals of it."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        self.clock.now += seconds
        for _ in range(3):
            self.watch.look()
            for _ in range(100):
                await asyncio.sleep(0)
        found = list(self.signals)
        self.signals.clear()
        return found

    async def names_after(self, seconds: float) -> set[str]:
        """The mailboxes that are signalled when so much time has passed."""
        return set().union(*(signal.origin_names for signal in await self.pass_by(seconds)))

    async def ended(self) -> None:
        """Wait for the end of the signals. Raises what ended them."""
        assert self._reading is not None
        async with asyncio.timeout(5):
            await self._reading

    async def _read(self) -> None:
        async for signal in self.watch.signals():
            self.signals.append(signal)


async def started_with_second(
    capabilities: str,
    script: Mapping[str, Answer] | None = None,
    *,
    is_followed: bool = True,
    refusals: Sequence[GatewayError] = (),
    known: Sequence[Mailbox] = (),
) -> Watched:
    """A watch that opens a second connection to the same server as soon as it is wanted."""
    clock, seconds, followed, refused = Clock(), list[ScriptedServer](), [is_followed], list(refusals)

    async def open_second() -> ClientSession:
        if refused:
            raise refused.pop(0)
        session, server = scripted_session(answering(script), capabilities)
        await session.agree()
        seconds.append(server)
        return session

    session, server = scripted_session(answering(script), capabilities)
    watch = await ImapWatch.start(session, known or KNOWN, clock, lambda: followed[0], open_second)
    return Watched(watch, server, clock, seconds, followed, refused)
