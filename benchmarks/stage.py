"""Everything that a run needs: a Dovecot with mail in it, an SMTP sink, and Postgate in a process of its own."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.process import ServerProcess
from tests.servers.tls import make_tls_files

from benchmarks import messages
from benchmarks.clients import HOST, Http, Imap
from benchmarks.contest import Tree
from benchmarks.sink import Sink

_BATCH = 200
_POLL_SECONDS = 0.05
_ROOT = Path(__file__).parent.parent


@dataclass(slots=True)
class Gateway:
    """A running `postgate demo`."""

    process: ServerProcess
    http_port: int
    key: str
    users: list[dict[str, str]]
    ports: dict[str, int]

    async def http(self) -> Http:
        """A connection of the server key."""
        return await Http.open(self.http_port, self.key)


@dataclass(slots=True)
class Stage:
    """`bare` and `mirrored` have the same mail; `bare` is the bare client's, `mirrored` is Postgate's account."""

    dovecot: Dovecot
    bare: DovecotUser
    mirrored: DovecotUser
    sink: Sink
    gateway: Gateway
    kinds: list[messages.Kind]
    """What message each number is; its UID is one more than its number."""

    @property
    def trees(self) -> dict[str, Tree]:
        return {"postgate": Tree(self.gateway.process.pid), "dovecot": Tree(self.dovecot.pid)}

    def numbers(self, kind: messages.Kind) -> list[int]:
        """The messages of this kind, newest first."""
        return [number for number in reversed(range(len(self.kinds))) if self.kinds[number] == kind]

    def account_order(self, user: DovecotUser) -> dict[str, Any]:
        """The body of `POST /v1/accounts` for a user of this Dovecot."""
        server = {"host": HOST, "security": "none"}
        return {
            "kind": "imap",
            "email": user.name,
            "imap": {**server, "port": self.dovecot.imap_port, "username": user.name, "password": user.password},
            "smtp": {
                **server,
                "port": self.sink.port,
                "username": self.sink.user,
                "password": self.sink.password,
            },
        }


@asynccontextmanager
async def open_stage(folder: Path, count: int) -> AsyncIterator[Stage]:
    """Start all servers and fill two mailboxes with `count` messages each."""
    async with AsyncExitStack() as stack:
        tls = make_tls_files(folder)
        dovecot = Dovecot(tls, folder / "dovecot.log")
        stack.callback(dovecot.close)
        await asyncio.to_thread(dovecot.start)
        bare, mirrored = dovecot.add_user("bare@mail.test"), dovecot.add_user("mirrored@mail.test")
        kinds = await _fill(dovecot.imap_port, [bare, mirrored], count)
        sink = Sink(tls)
        stack.callback(sink.close)
        gateway = await _start_gateway(folder)
        stack.callback(gateway.process.stop)
        yield Stage(dovecot, bare, mirrored, sink, gateway, kinds)


async def _fill(port: int, users: list[DovecotUser], count: int) -> list[messages.Kind]:
    """Append the messages in order; RFC 3502 takes many to a command."""
    clients = [await Imap.login(port, user.name, user.password) for user in users]
    kinds: list[messages.Kind] = []
    for start in range(0, count, _BATCH):
        batch = [messages.seed(number) for number in range(start, min(start + _BATCH, count))]
        kinds += [one.kind for one in batch]
        command = b"APPEND INBOX" + b"".join(map(_literal, batch))
        await asyncio.gather(*(client.command(command) for client in clients))
    for client in clients:
        client.close()
    return kinds


def _literal(seed: messages.Seed) -> bytes:
    flags = b"" if seed.number % 10 == 0 else rb"\Seen"
    date = seed.received_at.strftime("%d-%b-%Y %H:%M:%S +0000").encode()
    return b' (%b) "%b" {%d+}\r\n%b' % (flags, date, len(seed.content), seed.content)


async def _start_gateway(folder: Path) -> Gateway:
    log, data = folder / "postgate.log", folder / "data"
    ports = {f"POSTGATE_{name}_PORT": "0" for name in ("HTTP", "IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")}
    environment = {
        **os.environ,
        **ports,
        "POSTGATE_DATA_DIR": str(data),
        "POSTGATE_NET_ALLOW": "127.0.0.0/8",
        "POSTGATE_LOG_LEVEL": "warning",
    }
    process = ServerProcess(
        [str(Path(sys.executable).with_name("postgate")), "demo"],
        is_ready=lambda: log.exists() and log.read_bytes().endswith(b"ready\n"),
        log=log,
        environment=environment,
    )
    await asyncio.to_thread(process.start)
    demo = orjson.loads((data / "demo.json").read_bytes())
    port = urlsplit(demo["base_url"]).port
    return Gateway(process, port, demo["server_key"], demo["users"], demo["ports"])


@dataclass(frozen=True, slots=True)
class Mirrored:
    """Postgate's account on Dovecot, once it is synchronised. `ids` are its messages by number."""

    account: str
    inbox: str
    trash: str
    archive: str
    ids: list[str]


async def read_mirrored(stage: Stage, account_id: str) -> Mirrored:
    """Look up what the calls need to name."""
    http = await stage.gateway.http()
    account = f"/v1/accounts/{account_id}"
    listed = await http.call("GET", f"{account}/mailboxes")
    roles = {one["role"]: one["id"] for one in listed["items"]}
    ids: dict[str, str] = {}
    page: dict[str, Any] = {"next_cursor": ""}
    while page["next_cursor"] is not None:
        cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else ""
        page = await http.call("GET", f"{account}/messages?mailbox_id={roles['inbox']}&limit=500{cursor}")
        ids.update((one["message_id_header"], one["id"]) for one in page["items"])
    http.close()
    by_number = [ids[messages.message_id(number)] for number in range(len(stage.kinds))]
    return Mirrored(account, roles["inbox"], roles["trash"], roles["archive"], by_number)


async def wait_until_live(http: Http, account_id: str, deadline_seconds: float) -> float:
    """Wait for `sync.status: live`; how long that took, in seconds. Raises TimeoutError."""
    started = time.perf_counter()
    async with asyncio.timeout(deadline_seconds):
        status = ""
        while status != "live":
            await asyncio.sleep(_POLL_SECONDS)
            status = (await http.call("GET", f"/v1/accounts/{account_id}"))["sync"]["status"]
    return time.perf_counter() - started
