"""Postgate's own mail servers beside Dovecot's: the same bare client does the same work on both."""

from dataclasses import dataclass

from benchmarks import messages
from benchmarks.clients import Imap, Smtp
from benchmarks.contest import CONNECTIONS, Call, Contest, Side
from benchmarks.push import PushTimes, following, measure_push
from benchmarks.stage import Stage

_LIST_FETCH = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"
_LIST_COUNT = 50


@dataclass(frozen=True, slots=True)
class _Harness:
    """One mail server and a user of it."""

    name: str
    imap_port: int
    lmtp_port: int
    user: str
    password: str

    async def smtp(self) -> Smtp:
        smtp = await Smtp.connect(self.lmtp_port)
        await smtp.greet("LHLO")
        return smtp

    async def imap(self) -> Imap:
        return await Imap.login(self.imap_port, self.user, self.password)


class Harnesss:
    """Dovecot and Postgate, each with a user of its own for this."""

    def __init__(self, stage: Stage) -> None:
        there, here = stage.dovecot.add_user("neighbour@mail.test"), stage.gateway.users[1]
        ports = stage.gateway.ports
        self._gateway = stage.gateway
        self._here = here
        self._all = (
            _Harness("dovecot", stage.dovecot.imap_port, stage.dovecot.lmtp_port, there.name, there.password),
            _Harness("postgate", ports["imap"], ports["lmtp"], here["email"], here["password"]),
        )

    async def deliveries(self) -> Contest:
        """LMTP: each message is on disk before its 250 (Dovecot: mail_fsync=optimized, its default)."""

        def deliver(harness: _Harness, smtp: Smtp) -> Call:
            return lambda: smtp.send("ann.lee@elsewhere.test", harness.user, messages.small(1))

        sides = [
            Side(harness.name, [deliver(harness, await harness.smtp()) for _ in range(CONNECTIONS)])
            for harness in self._all
        ]
        return Contest("embedded: LMTP delivery", (sides[0], sides[1]), alone=30, together=160)

    async def listing(self) -> Contest:
        """The newest 50 of what `deliveries` left."""

        def fetch(imap: Imap, first: int) -> Call:
            return lambda: imap.command(f"FETCH {first}:{first + _LIST_COUNT - 1} {_LIST_FETCH}")

        sides = []
        for harness in self._all:
            clients = [await harness.imap() for _ in range(CONNECTIONS)]
            first = max(1, await _count(clients[0]) - _LIST_COUNT + 1)
            sides.append(Side(harness.name, [fetch(client, first) for client in clients]))
        return Contest("embedded: IMAP list of 50", (sides[0], sides[1]))

    async def push(self, count: int) -> PushTimes:
        """From DATA to frame, beside our own IDLE."""
        harness = self._all[1]
        async with following(self._gateway, self._here["account_id"]) as stream:
            return await measure_push(stream, await harness.imap(), harness.lmtp_port, harness.user, count)


async def _count(imap: Imap) -> int:
    answer = await imap.command("STATUS INBOX (MESSAGES)")
    return int(answer.partition(b"MESSAGES ")[2].split(b")")[0])
