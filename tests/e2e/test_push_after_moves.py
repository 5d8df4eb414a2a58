"""Mail is pushed as soon as a mail client hears of it, whatever is moved meanwhile: each mail format of Dovecot."""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.clients import Http
from benchmarks.moves import Lateness, Plan, add_account, measure
from websockets.asyncio.client import connect

from tests.servers.dovecot import Dovecot, MailFormat
from tests.servers.postgate import Postgate
from tests.servers.process import started
from tests.servers.tls import TlsFiles

BARE_CLIENTS = 4.0
"""How many times as long as at a bare client it may take. A deaf watch takes some fifty times as long."""
FORMATS: tuple[MailFormat, ...] = ("mdbox", "sdbox", "maildir")


@pytest.fixture(params=[True, False], ids=["list index", "no list index"])
def server(request: pytest.FixtureRequest, tls: TlsFiles, tmp_path: Path) -> Iterator[Dovecot]:
    """A Dovecot with NOTIFY, and one without: it needs the list index."""
    with started(Dovecot(tls, tmp_path / "dovecot.log", has_list_index=request.param)) as dovecot:
        yield dovecot


async def pushed(gateway: Postgate, dovecot: Dovecot, format: MailFormat, plan: Plan) -> Lateness:
    """What a subscriber sees of deliveries while messages are moved."""
    http = await Http.open(int(gateway.base_url.rpartition(":")[2]), gateway.key)
    user = await asyncio.to_thread(dovecot.add_user, format=format)
    account_id = await add_account(http, dovecot, user, plan.moves // 2 + plan.burst)
    url = gateway.base_url.replace("http", "ws", 1) + "/v1/stream"
    async with connect(url, additional_headers={"Authorization": f"Bearer {gateway.key}"}, max_queue=None) as stream:
        await stream.send(f'{{"type": "subscribe", "sub_id": "s", "accounts": ["{account_id}"]}}')
        while "subscribed" not in str(await stream.recv()):
            pass
        found = await measure(stream, http, account_id, dovecot, user, plan)
    http.close()
    return found


@pytest.mark.timeout(240)
async def test_mail_that_comes_while_hundreds_are_moved_is_pushed_as_soon_as_to_a_bare_client(
    gateway: Postgate, server: Dovecot
) -> None:
    plan = Plan(moves=200, burst=50, deliveries=12, longest_gap_seconds=4.0)

    results = await asyncio.gather(*(pushed(gateway, server, format, plan) for format in FORMATS))

    for found in results:
        assert (found.lost, found.doubled, found.moved) == ([], [], plan.moves)
        assert sum(found.frame_ms) <= BARE_CLIENTS * sum(found.line_ms)


@pytest.mark.soak
@pytest.mark.timeout(4500)
async def test_for_an_hour_no_mail_is_late_or_lost_while_thousands_are_moved(
    gateway: Postgate, dovecot: Dovecot
) -> None:
    """The figures are logged: `pytest -rP` shows them."""
    plan = Plan(moves=6000, burst=100, deliveries=560, longest_gap_seconds=30.0)

    results = await asyncio.gather(*(pushed(gateway, dovecot, format, plan) for format in FORMATS))

    for format, found in zip(FORMATS, results, strict=True):
        logging.getLogger(__name__).warning("%s: %s", format, summary(found))
    for found in results:
        assert (found.lost, found.doubled, found.moved) == ([], [], plan.moves)
        assert sum(found.frame_ms) <= BARE_CLIENTS * sum(found.line_ms)


def summary(found: Lateness) -> str:
    after, elsewhere = sorted(found.inbox_ms), sorted(found.elsewhere_ms)
    p99 = after[int(len(after) * 0.99)]
    return (
        f"{found.moved} moves, {len(after)} + {len(elsewhere)} deliveries, {len(found.lost)} lost; ms after the bare "
        f"client: p50 {statistics.median(after):.0f}, p99 {p99:.0f}, slowest {after[-1]:.0f}; "
        f"two bare clients apart: {max(found.apart_ms):.0f}; "
        f"in another mailbox after the delivery: p50 {statistics.median(elsewhere):.0f}, slowest {elsewhere[-1]:.0f}"
    )
