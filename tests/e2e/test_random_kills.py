"""Rounds of random load in which the gateway or its database dies at a random moment: nothing is lost or doubled."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.load import Books, Client, ImapClient, LmtpClient, ReadingClient, SendingClient, SmtpClient, faults
from tests.mirror_subscriber import Copy, Subscriber, read_all
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.postgate import Postgate
from tests.servers.postgres import DURABLE, Postgres
from tests.servers.process import started
from tests.servers.smtp_sink import SmtpSink
from tests.servers.tls import TlsFiles

log = logging.getLogger(__name__)

ROUNDS = 3
SOAK_ROUNDS = 40
HEAL_SECONDS = 60.0
KINDS = (SmtpClient, LmtpClient, ImapClient, SendingClient, ReadingClient)


@dataclass
class Scene:
    """A gateway with what it stands on: for PostgreSQL a server, and a proxy that cuts connections to it."""

    gateway: Postgate
    sink: SmtpSink
    chance: random.Random
    postgres: Postgres | None = None
    proxy: CuttingProxy | None = None
    failures: Counter[str] = field(default_factory=Counter)

    def fail(self, number: int) -> None:
        """Make the failure of a round: the gateway's death every other time, then one of the database."""
        failures: list[Callable[[], None]] = [self.kill_gateway]
        if self.postgres is not None and number % 2:
            failures = [self.restart_database, self.kill_database, self.freeze_database, self.cut_connections]
        failure = failures[number // 2 % len(failures)]
        self.failures[failure.__name__] += 1
        failure()

    def kill_gateway(self) -> None:
        self.gateway.kill()
        time.sleep(self.chance.uniform(0, 0.5))
        self.gateway.start_again()

    def restart_database(self) -> None:
        assert self.postgres is not None
        self.postgres.stop()
        time.sleep(self.chance.uniform(0, 3))
        self.postgres.start()

    def kill_database(self) -> None:
        assert self.postgres is not None
        self.postgres.kill()
        time.sleep(self.chance.uniform(0, 3))
        self.postgres.start()

    def freeze_database(self) -> None:
        assert self.postgres is not None
        self.postgres.freeze()
        time.sleep(self.chance.uniform(0, 6))
        self.postgres.thaw()

    def cut_connections(self) -> None:
        assert self.proxy is not None
        for _ in range(self.chance.randint(1, 20)):
            self.chance.choice([self.proxy.cut_one, self.proxy.cut_all])()
            time.sleep(self.chance.uniform(0, 0.3))

    def is_ready(self) -> bool:
        with self.gateway.client() as client:
            return client.get("/v1/health/ready").status_code == 200


@pytest.fixture(params=["sqlite", "postgresql"])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tls: TlsFiles, smtp_sink: SmtpSink
) -> Iterator[Scene]:
    folder: Path = tmp_path_factory.mktemp("killed")
    smtp_sink.requires_auth = False
    settings = {"SMARTHOST": f"127.0.0.1:{smtp_sink.port}", "SMARTHOST_SECURITY": "none"}
    chance = random.Random(request.node.name)
    with ExitStack() as stack:
        postgres = proxy = None
        if request.param == "postgresql":
            postgres = stack.enter_context(started(Postgres(folder / "postgres.log", **DURABLE)))
            proxy = stack.enter_context(started(CuttingProxy(postgres.port, seed=1)))
            address = postgres.url(postgres.create_database())
            settings["DATABASE_URL"] = address.replace(f":{postgres.port}/", f":{proxy.port}/")
        gateway = Postgate(folder, **settings)
        stack.callback(gateway.kill)
        gateway.start()
        yield Scene(gateway, smtp_sink, chance, postgres, proxy)


def test_a_few_random_kills_lose_and_double_nothing(scene: Scene) -> None:
    survive(scene, ROUNDS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_forty_random_kills_lose_and_double_nothing(scene: Scene) -> None:
    survive(scene, SOAK_ROUNDS)


def survive(scene: Scene, rounds: int) -> None:
    books = Books("kills")
    account_id = scene.gateway.user()["account_id"]
    subscriber = Subscriber(scene.gateway, account_id, 1, frames_between_cuts=1_000_000)
    subscriber.start()
    for number in range(rounds):
        wrong = one_round(scene, books, number)
        log.info("round %d of %d: %s %s", number + 1, rounds, dict(scene.failures), figures(books))
        assert wrong == [], f"round {number}\n{scene.gateway.log_tail[-3000:]}"
    believed = subscriber.finish()
    with scene.gateway.client() as client:
        fresh, _ = read_all(client, scene.gateway.account_path())
    assert differences(believed, fresh) == []
    assert subscriber.gaps == 0
    assert sum(scene.failures.values()) == rounds


def one_round(scene: Scene, books: Books, number: int) -> list[str]:
    """Load, a failure at a random moment, load again, rest: what is wrong then."""
    clients: list[Client] = [kind(scene.gateway, books, number) for kind in KINDS]
    for client in clients:
        client.start()
    time.sleep(scene.chance.uniform(0.3, 2))
    scene.fail(number)
    wait_until(scene.is_ready)
    before = [client.done for client in clients]
    wait_until(lambda: all(client.done > done for client, done in zip(clients, before, strict=True)))
    for client in clients:
        client.finish()
    return faults(scene.gateway, books, scene.sink)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HEAL_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it does not heal"
        time.sleep(0.1)


def differences(believed: Copy, fresh: Copy) -> list[str]:
    """Messages that the subscriber sees differently."""
    ids = believed.messages.keys() | fresh.messages.keys()
    return [
        f"{id_}: believed {believed.messages.get(id_)}, true {fresh.messages.get(id_)}"
        for id_ in ids
        if believed.messages.get(id_) != fresh.messages.get(id_)
    ]


def figures(books: Books) -> dict[str, int]:
    kinds = Counter(subject.split("-")[1] for subject, allowed in books.places.items() if len(allowed) == 1)
    return {**kinds, "send": len(books.sends), "refused": books.refusals.total(), "lost connections": len(books.lost)}
