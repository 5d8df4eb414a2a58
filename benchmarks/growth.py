"""What an account costs: its first sync, and its memory while nobody asks for anything."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.servers.dovecot import DovecotUser

from benchmarks import messages
from benchmarks.clients import Http, Smtp
from benchmarks.stage import Stage, wait_until_live

_SYNC_SECONDS = 120.0
_QUIET_SECONDS = 20.0
_MESSAGES_EACH = 2
_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class FirstSync:
    """`probe_ms`: what lists of another account took meanwhile, each a call of its own."""

    account_id: str
    rate: float
    cpu_seconds: float
    probe_ms: Sequence[float]


async def measure_first_sync(stage: Stage) -> FirstSync:
    """Add the account with all the mail, until it is live; then wait until Postgate rests (previews follow)."""
    http, prober = await stage.gateway.http(), await stage.gateway.http()
    tree = stage.trees["postgate"]
    before, probes = tree.cpu_seconds(), list[float]()
    probing = asyncio.create_task(_probe(prober, stage.gateway.users[0]["account_id"], probes))
    started = time.perf_counter()
    account = await http.call("POST", "/v1/accounts", stage.account_order(stage.mirrored))
    await wait_until_live(http, account["id"], _SYNC_SECONDS)
    seconds = time.perf_counter() - started
    spent = tree.cpu_seconds() - before
    probing.cancel()
    await asyncio.wait([probing])
    await tree.quiet(_SYNC_SECONDS)
    for client in (http, prober):
        client.close()
    return FirstSync(account["id"], len(stage.kinds) / seconds, spent, probes)


async def _probe(http: Http, account_id: str, probes: list[float]) -> None:
    request = http.prepare("GET", f"/v1/accounts/{account_id}/messages?limit=20")
    while True:
        started = time.perf_counter()
        await http.send(request)
        probes.append((time.perf_counter() - started) * 1000)
        await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of Postgate's whole tree, in bytes."""

    one_account: int
    each_further: float
    further: int


async def measure_memory(stage: Stage, further: int) -> Memory:
    """Now, with one account and after its load; then with `further` ones more that are watched and idle."""
    tree = stage.trees["postgate"]
    await tree.quiet(_QUIET_SECONDS)
    one_account = tree.memory_bytes()
    users = await _users_with_mail(stage, further)
    await asyncio.gather(*(_add(stage, users[start::_AT_A_TIME]) for start in range(_AT_A_TIME)))
    await tree.quiet(_QUIET_SECONDS)
    return Memory(one_account, (tree.memory_bytes() - one_account) / further, further)


async def _users_with_mail(stage: Stage, count: int) -> list[DovecotUser]:
    users = [stage.dovecot.add_user() for _ in range(count)]
    lmtp = await Smtp.connect(stage.dovecot.lmtp_port)
    await lmtp.greet("LHLO")
    for user in users:
        for number in range(_MESSAGES_EACH):
            await lmtp.send("ann.lee@elsewhere.test", user.name, messages.small(number))
    lmtp.close()
    return users


async def _add(stage: Stage, users: Sequence[DovecotUser]) -> None:
    http = await stage.gateway.http()
    for user in users:
        account = await http.call("POST", "/v1/accounts", stage.account_order(user))
        await wait_until_live(http, account["id"], _SYNC_SECONDS)
    http.close()
