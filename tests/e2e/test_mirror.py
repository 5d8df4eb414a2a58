"""The mirror is exact: whatever changes and whatever is cut off, the index ends as the origin, a subscriber as both."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mirror_model import Changer, differences, of_index, of_origin
from tests.mirror_subscriber import Copy, Subscriber, read_all
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate
from tests.servers.process import started

log = logging.getLogger(__name__)

CHANGES = 500
SOAK_CHANGES = 10_000
CUT_EVERY = 20
KILL_EVERY = 90
RESTART_EVERY = 150
"""On average so many changes lie between two cuts of connections, kills of the gateway, restarts of the server."""
SETTLE_SECONDS = 90.0
PATHS = {
    "qresync": (),
    "condstore": ("QRESYNC", "NOTIFY"),
    "neither": ("QRESYNC", "CONDSTORE", "NOTIFY", "LIST-STATUS", "ESEARCH"),
}
"""What the server's client is not shown."""


@dataclass
class Scene:
    """A gateway that follows an account through a proxy."""

    gateway: Postgate
    proxy: CuttingProxy
    dovecot: Dovecot
    user: DovecotUser
    account_id: str
    data: Path

    @property
    def path(self) -> str:
        return f"/v1/accounts/{self.account_id}"


@pytest.fixture
def scene(request: pytest.FixtureRequest, gateway: Postgate, tmp_path: Path, dovecot: Dovecot) -> Iterator[Scene]:
    user = dovecot.add_user()
    with started(CuttingProxy(dovecot.imap_port, seed=1, hidden=PATHS[request.param])) as proxy:
        imap = {"host": "127.0.0.1", "port": proxy.port, "security": "none"}
        with gateway.client() as client:
            login = imap | {"username": user.name, "password": user.password}
            answer = client.post("/v1/accounts", json={"email": user.name, "kind": "imap", "imap": login})
        assert answer.status_code == 201, answer.text
        yield Scene(gateway, proxy, dovecot, user, answer.json()["id"], tmp_path / "data")


@pytest.mark.parametrize("scene", PATHS, indirect=True)
def test_after_random_changes_and_cuts_index_origin_and_subscriber_agree(scene: Scene) -> None:
    agree_after(scene, CHANGES, seed=7)


@pytest.mark.soak
@pytest.mark.parametrize("scene", PATHS, indirect=True)
def test_after_ten_thousand_random_changes_and_cuts_index_origin_and_subscriber_agree(scene: Scene) -> None:
    agree_after(scene, SOAK_CHANGES, seed=11)


def agree_after(scene: Scene, count: int, seed: int) -> None:
    """Make so many changes, then let everything come to rest and compare."""
    changer = Changer(scene.dovecot, scene.user, scene.gateway, scene.account_id, seed)
    subscriber = Subscriber(scene.gateway, scene.account_id, seed + 1, frames_between_cuts=10)
    subscriber.start()
    scene.proxy.cut_share = 0.3
    try:
        disturb(scene, changer, random.Random(seed + 2), count)
        scene.proxy.cut_share = 0.0
        scene.proxy.cut_all()
        wrong = settled(scene)
    finally:
        changer.close()
    story = "\n".join([f"seed {seed}, the last changes:", *changer.done])
    assert not wrong, "\n".join([*wrong[:40], story])
    believed = subscriber.finish()
    with scene.gateway.client() as client:
        fresh, _ = read_all(client, scene.path)
    assert not unlike(believed, fresh), "\n".join([*unlike(believed, fresh)[:40], story])
    log.info("%d changes, %d cuts of the subscriber, %d mailboxes read anew", count, subscriber.cuts, subscriber.reread)


def disturb(scene: Scene, changer: Changer, chance: random.Random, count: int) -> None:
    """Make the changes, cut off what can be cut off, each at its own random times."""
    for _ in range(count):
        changer.change()
        if chance.random() < 1 / CUT_EVERY:
            chance.choice([scene.proxy.cut_one, scene.proxy.cut_all])()
        if chance.random() < 1 / KILL_EVERY:
            scene.gateway.kill()
            changer.forget_gateway()
            for _ in range(chance.randrange(8)):
                changer.change()
            scene.gateway.start_again()
        if chance.random() < 1 / RESTART_EVERY:
            chance.choice([scene.dovecot.stop, scene.dovecot.kill])()
            time.sleep(chance.uniform(0, 0.5))
            scene.dovecot.start()
        time.sleep(chance.choice([0, 0, 0.02, 0.1]))


def settled(scene: Scene) -> list[str]:
    """What differs between index and origin when nothing changes any more, at the latest after SETTLE_SECONDS."""
    origin = of_origin(scene.dovecot, scene.user)
    deadline = time.monotonic() + SETTLE_SECONDS
    with scene.gateway.client() as client:
        while wrong := differences(of_index(scene.data, scene.account_id), origin):
            if time.monotonic() > deadline:
                return [*wrong, str(client.get(scene.path).json())]
            time.sleep(0.2)
    return []


def unlike(believed: Copy, fresh: Copy) -> list[str]:
    """What a subscriber believes and is not so."""
    said = [
        f"mailbox {id_}: {believed.mailboxes.get(id_)!r} is believed, {fresh.mailboxes.get(id_)!r} is true"
        for id_ in believed.mailboxes.keys() | fresh.mailboxes.keys()
        if believed.mailboxes.get(id_) != fresh.mailboxes.get(id_)
    ]
    said += [
        f"{id_}: {believed.messages.get(id_)} is believed, {fresh.messages.get(id_)} is true"
        for id_ in believed.messages.keys() | fresh.messages.keys()
        if believed.messages.get(id_) != fresh.messages.get(id_)
    ]
    return said
