"""`python -m benchmarks`: start everything, let all take turns, print the table."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks import embedded, growth, moves, push, remote, report
from benchmarks.clients import Imap
from benchmarks.contest import Contest, hold
from benchmarks.stage import Mirrored, Stage, open_stage, read_mirrored

_REMOTE = {
    "list": remote.listing,
    "get-cold": remote.get_cold,
    "get-warm": remote.get_warm,
    "raw": remote.raw,
    "attachment": remote.attachment,
    "flag": remote.flag,
    "search-subject": remote.search_subject,
    "search-text": remote.search_text,
    "submit": remote.submit,
    "move": remote.move,
}
_OTHER = ("sync", "push", "push-moves", "embedded", "memory")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; `scale` shortens the turns."""

    messages: int
    scale: float
    pushes: int
    further_accounts: int
    moving: moves.Plan


_FULL = Size(
    messages=10_000, scale=1, pushes=20, further_accounts=1000, moving=moves.Plan(deliveries=60, longest_gap_seconds=4)
)
_QUICK = Size(
    messages=1_000,
    scale=0.2,
    pushes=3,
    further_accounts=20,
    moving=moves.Plan(moves=100, burst=50, deliveries=6, longest_gap_seconds=0.5),
)


_PREFACE = """\
{count} messages in each of two mailboxes on Dovecot, filled in {seconds:.0f} s.
Clients, Dovecot and Postgate share the cores of this machine; the sides take turns, so trust ratios alone.
`bare` finds the end of each answer and does nothing else with it.
"""


@dataclass(slots=True)
class Run:
    """One run: prints as it goes and gathers the same for JSON."""

    stage: Stage
    size: Size
    only: Sequence[str]
    gathered: list[dict[str, Any]] = field(default_factory=list)

    def wants(self, *names: str) -> bool:
        """Whether any of these was asked for."""
        return not self.only or not set(names).isdisjoint(self.only)

    async def all(self) -> None:
        """Everything that is wanted, each part on what the parts before it left."""
        if self.wants(*_REMOTE, "sync", "push"):
            await self._mirrored()
        if self.wants("push-moves"):
            await self._push_while_moving()
        if self.wants("embedded"):
            await self._embedded()
        if self.wants("memory"):
            self._tell(report.memory_lines(await growth.measure_memory(self.stage, self.size.further_accounts)))

    async def _mirrored(self) -> None:
        sync = await growth.measure_first_sync(self.stage)
        self._tell(report.sync_lines(sync))
        if self.wants(*_REMOTE):
            await self._remote(await read_mirrored(self.stage, sync.account_id))
        if self.wants("push"):
            await self._push(sync.account_id)

    async def _remote(self, mirrored: Mirrored) -> None:
        async with remote.open_work(self.stage, mirrored) as work:
            for name, make in _REMOTE.items():
                if self.wants(name):
                    made = await make(work)
                    await self._hold(made)

    async def _embedded(self) -> None:
        harnesss = embedded.Harnesss(self.stage)
        await self._hold(await harnesss.deliveries())
        await self._hold(await harnesss.listing())
        self._tell(report.push_lines("embedded: push", await harnesss.push(self.size.pushes), None))

    async def _push(self, account_id: str) -> None:
        stage, user = self.stage, self.stage.mirrored
        idler = await Imap.login(stage.dovecot.imap_port, user.name, user.password)
        async with push.following(stage.gateway, account_id) as stream:
            times = await push.measure_push(stream, idler, stage.dovecot.lmtp_port, user.name, self.size.pushes)
        idler.close()
        self._tell(report.push_lines("push", times, 5))
        notified, giver = [await Imap.login(stage.dovecot.imap_port, user.name, user.password) for _ in range(2)]
        async with push.following(stage.gateway, account_id) as stream:
            times = await push.measure_push_elsewhere(stream, notified, giver, "Archive", self.size.pushes)
        self._tell(report.push_lines("push in another mailbox", times, 5, "NOTIFY"))
        notified.close()
        giver.close()

    async def _push_while_moving(self) -> None:
        dovecot, http = self.stage.dovecot, await self.stage.gateway.http()
        user, plan = dovecot.add_user("moving@mail.test"), self.size.moving
        account_id = await moves.add_account(http, dovecot, user, plan.moves)
        async with push.following(self.stage.gateway, account_id) as stream:
            found = await moves.measure(stream, http, account_id, dovecot, user, plan)
        await http.call("DELETE", f"/v1/accounts/{account_id}")
        http.close()
        self._tell(report.moving_lines(found))

    async def _hold(self, contest: Contest) -> None:
        await hold(contest, self.stage.trees, scale=self.size.scale)
        if not any("sides" in one for one in self.gathered):
            report.print_head()
        report.print_contest(contest)
        self.gathered.append(report.contest_json(contest))

    def _tell(self, lines: Sequence[report.Line]) -> None:
        report.print_lines(lines)
        self.gathered += [report.line_json(line) for line in lines]


async def _run(folder: Path, size: Size, only: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of a run, printed already."""
    started = time.monotonic()
    async with open_stage(folder, size.messages) as stage:
        print(_PREFACE.format(count=size.messages, seconds=time.monotonic() - started), flush=True)
        run = Run(stage, size, only)
        await run.all()
    print(f"{time.monotonic() - started:.0f} s in all.")
    return run.gathered


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fraction of everything, within a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--only", nargs="+", default=[], choices=[*_REMOTE, *_OTHER], metavar="NAME", help="%(choices)s"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postgate-bench-") as name:
        figures = asyncio.run(_run(Path(name), _QUICK if asked.quick else _FULL, asked.only))
    if asked.json is not None:
        asked.json.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
