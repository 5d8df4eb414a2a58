"""Who is let in: whoever has not logged in makes room for whoever comes."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from app.errors import RateLimited
from app.mail.types import AccountId
from app.security.addresses import Proxies, is_loopback
from app.servers.admission import Admission, AdmittedConnection, ConnectionLimits
from app.servers.conversation import Client
from app.services.access.logins import Login

LIMITS = ConnectionLimits(
    total=6,
    strangers=4,
    per_user_and_address=2,
    per_user_from_loopback=3,
    proxies=Proxies([ip_network("10.0.0.0/8")]),
)


class Door:
    """An Admission, and who was sent away."""

    def __init__(self) -> None:
        self.admission = Admission(LIMITS)
        self.sent_away: list[int] = []
        self.peers: list[Client] = []

    def enter(self, address: str = "127.0.0.1") -> AdmittedConnection | None:
        number = len(self.peers)
        peer = Client(address, is_loopback(address), is_encrypted=False, can_start_tls=False)
        self.peers.append(peer)
        return self.admission.enter(peer, lambda: self.sent_away.append(number))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1"])
def test_idle_connections_of_a_shared_address_keep_nobody_out(address: str) -> None:
    door = Door()

    assert all(door.enter(address) for _ in range(100))
    assert door.sent_away == list(range(96))


def test_one_address_makes_room_for_itself_alone() -> None:
    door = Door()
    visits = [door.enter(address) for address in ("2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3")]

    assert all(visits)
    assert door.sent_away == [0]


def test_who_has_logged_in_is_never_sent_away() -> None:
    door = Door()
    for user in ("ann", "bob", "cid"):
        door.enter()
        door.peers[-1].claim(Login(AccountId(user), 0))

    for _ in range(50):
        door.enter()

    assert not {0, 1, 2} & set(door.sent_away)
    assert [peer.is_known for peer in door.peers[:4]] == [True, True, True, False]


def test_where_all_have_logged_in_nobody_more_gets_in_until_one_leaves() -> None:
    door = Door()
    visits = []
    for number in range(6):
        visits.append(door.enter())
        door.peers[-1].claim(Login(AccountId(f"user{number}"), 0))

    assert door.enter() is None
    assert visits[0] is not None
    visits[0].leave()
    visits[0].leave()
    assert door.enter() is not None
    assert door.sent_away == []


def test_the_one_that_was_active_last_stays_longest() -> None:
    door = Door()
    first, *_ = [door.enter() for _ in range(4)]
    assert first is not None
    first.is_active()

    door.enter()

    assert door.sent_away == [1]


def test_a_user_has_a_limit_per_address() -> None:
    door = Door()
    for _ in range(2):
        door.enter("192.0.2.1")
        door.peers[-1].claim(Login(AccountId("ann"), 0))
    door.enter("192.0.2.1")

    with pytest.raises(RateLimited):
        door.peers[-1].claim(Login(AccountId("ann"), 0))
    door.peers[-1].claim(Login(AccountId("bob"), 0))
    door.enter("192.0.2.2")
    door.peers[-1].claim(Login(AccountId("ann"), 0))
