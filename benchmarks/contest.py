"""Sides that do the same work take turns; what each call took, and what CPU the servers spent on it."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

Call = Callable[[], Awaitable[object]]
"""One call from start to end, on a connection of its own."""

CONNECTIONS = 16
TURN_SECONDS = 1.5
"""After which a turn ends, however many calls it was to make."""


class Tree:
    """A server's processes: its master and all below it."""

    def __init__(self, pid: int) -> None:
        self._master = psutil.Process(pid)

    def cpu_seconds(self) -> float:
        """User and system time so far, with that of children that have ended."""
        total = 0.0
        for process in [self._master, *self._master.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_bytes(self) -> int:
        """Resident memory, with pages that processes share counted once a process."""
        total = 0
        for process in [self._master, *self._master.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    async def quiet(self, deadline_seconds: float) -> None:
        """Return when the tree spends less than 3 % of a core, or at the deadline."""
        deadline = time.monotonic() + deadline_seconds
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            await asyncio.sleep(0.5)
            if self.cpu_seconds() - before < 0.015:
                return


@dataclass(slots=True)
class Turns:
    """What the turns of one kind brought: time of each call, and of all turns together (seconds)."""

    seconds: list[float] = field(default_factory=list)
    wall_seconds: float = 0.0

    def quantile_ms(self, share: float) -> float:
        """The time that this share of the calls stayed within; nan without a call."""
        if not self.seconds:
            return math.nan
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000

    @property
    def rate(self) -> float:
        """Calls a second; nan without a call."""
        return len(self.seconds) / self.wall_seconds if self.wall_seconds else math.nan


async def _done() -> None:
    """Nothing is left over by a turn."""


@dataclass(slots=True)
class Side:
    """One way to do the work: a call for each connection. `settle` waits for what a turn left to do."""

    name: str
    calls: Sequence[Call]
    settle: Callable[[], Awaitable[object]] = _done
    alone: Turns = field(default_factory=Turns)
    together: Turns = field(default_factory=Turns)
    cpu_seconds: dict[str, float] = field(default_factory=dict)

    def cpu_ms(self, server: str) -> float:
        """CPU a call of one server, both kinds of turn taken together."""
        count = len(self.alone.seconds) + len(self.together.seconds)
        return self.cpu_seconds.get(server, 0.0) * 1000 / count if count else math.nan


@dataclass(frozen=True, slots=True)
class Aim:
    """Bounds on Postgate's figure divided by the bare client's. 0 and infinity bound nothing."""

    most_time: float = math.inf
    """Of the p50 at one connection."""
    least_rate: float = 0.0
    """Of the requests a second at 16."""


@dataclass(slots=True)
class Contest:
    """Work that two sides do, the reference first; `alone` calls a turn at 1 connection, `together` at 16."""

    name: str
    sides: tuple[Side, Side]
    aim: Aim = Aim()
    rounds: int = 5
    alone: int = 40
    together: int = 160
    note: str = ""


async def hold(contest: Contest, trees: Mapping[str, Tree], *, scale: float) -> None:
    """Let the sides take turns; the figures gather in them. `scale` shortens the turns."""
    rounds = max(1, round(contest.rounds * scale))
    for side in contest.sides:
        await side.calls[0]()  # what happens once is no part of the figures
        await side.settle()
    for number in range(rounds):
        sides = contest.sides if number % 2 == 0 else contest.sides[::-1]
        for side in sides:
            before = {name: tree.cpu_seconds() for name, tree in trees.items()}
            await _turn(side.alone, side.calls[:1], contest.alone)
            if contest.together:
                await _turn(side.together, side.calls, contest.together)
            await side.settle()
            for name, tree in trees.items():
                spent = tree.cpu_seconds() - before[name]
                side.cpu_seconds[name] = side.cpu_seconds.get(name, 0.0) + spent


async def _turn(turns: Turns, calls: Sequence[Call], count: int) -> None:
    each = max(1, count // len(calls))
    started = time.perf_counter()
    deadline = started + TURN_SECONDS
    await asyncio.gather(*(_repeat(turns, call, each, deadline) for call in calls))
    turns.wall_seconds += time.perf_counter() - started


async def _repeat(turns: Turns, call: Call, count: int, deadline: float) -> None:
    for _ in range(count):
        started = time.perf_counter()
        await call()
        ended = time.perf_counter()
        turns.seconds.append(ended - started)
        if ended > deadline:
            return
