"""What an account costs: its first sync, and its memory and CPU while nobody asks for anything."""

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
_IDLE_SECONDS = 20.0
_BACK_SECONDS = 180.0
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
    """Resident memory of Postgate's whole tree, in bytes; its CPU with all these accounts idle, in cores.

    `back_seconds`: from Dovecot's restart until each account showed a message that came then; `lost` never did.
    """

    one_account: int
    each_further: float
    further: int
    idle_cpu: float
    back_seconds: float
    lost: int


async def measure_memory(stage: Stage, further: int) -> Memory:
    """Now, with one account and after its load; then with `further` ones more that are watched and idle."""
    tree = stage.trees["postgate"]
    await tree.quiet(_QUIET_SECONDS)
    one_account = tree.memory_bytes()
    users = await _users_with_mail(stage, further)
    added = await asyncio.gather(*(_add(stage, users[start::_AT_A_TIME]) for start in range(_AT_A_TIME)))
    await tree.quiet(_QUIET_SECONDS)
    each_further = (tree.memory_bytes() - one_account) / further
    before = tree.cpu_seconds()
    await asyncio.sleep(_IDLE_SECONDS)
    idle_cpu = (tree.cpu_seconds() - before) / _IDLE_SECONDS
    back_seconds, lost = await _restart(stage, users, [account_id for some in added for account_id in some])
    return Memory(one_account, each_further, further, idle_cpu, back_seconds, lost)


async def _restart(stage: Stage, users: Sequence[DovecotUser], account_ids: Sequence[str]) -> tuple[float, int]:
    """Restart Dovecot and give each user a message; how long until all accounts show it, and how many never did."""
    await asyncio.to_thread(stage.dovecot.restart)
    started = time.monotonic()
    await _deliver(stage, users, 1)
    http = await stage.gateway.http()
    waiting = set(account_ids)
    while waiting and time.monotonic() - started < _BACK_SECONDS:
        for account_id in sorted(waiting):
            listed = await http.call("GET", f"/v1/accounts/{account_id}/mailboxes")
            if any(one["role"] == "inbox" and one["total"] > _MESSAGES_EACH for one in listed["items"]):
                waiting.discard(account_id)
        await asyncio.sleep(1)
    http.close()
    return time.monotonic() - started, len(waiting)


async def _users_with_mail(stage: Stage, count: int) -> list[DovecotUser]:
    users = [stage.dovecot.add_user() for _ in range(count)]
    await _deliver(stage, users, _MESSAGES_EACH)
    return users


async def _deliver(stage: Stage, users: Sequence[DovecotUser], count: int) -> None:
    lmtp = await Smtp.connect(stage.dovecot.lmtp_port)
    await lmtp.greet("LHLO")
    for user in users:
        for number in range(count):
            await lmtp.send("ann.lee@elsewhere.test", user.name, messages.small(number))
    lmtp.close()


async def _add(stage: Stage, users: Sequence[DovecotUser]) -> list[str]:
    """The ids of their accounts."""
    http, added = await stage.gateway.http(), list[str]()
    for user in users:
        account = await http.call("POST", "/v1/accounts", stage.account_order(user))
        await wait_until_live(http, account["id"], _SYNC_SECONDS)
        added.append(account["id"])
    http.close()
    return added
