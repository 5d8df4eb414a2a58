"""The table of connections: strangers have a share, the newest of them gets in, members are never cut for one."""

from __future__ import annotations

from ipaddress import ip_network

from app.api.server.connections import Connections, HttpLimits
from app.security.addresses import Proxies

LIMITS = HttpLimits(total=6, strangers=4, strangers_per_address=2, proxies=Proxies([ip_network("10.0.0.0/8")]))


class Link:
    """A connection that remembers whether it was cut."""

    def __init__(self, address: str = "127.0.0.1", *, is_busy: bool = False) -> None:
        self.peer_address = address
        self.is_signed_in = False
        self.is_busy = is_busy
        self.is_cut = False

    def cut(self) -> None:
        self.is_cut = True

    def check(self, now: float) -> None:
        """No deadline."""


async def test_the_stranger_that_waited_longest_makes_room_for_the_newest() -> None:
    table = Connections(LIMITS)
    links = [Link() for _ in range(7)]

    assert all(table.enter(link) for link in links)
    assert [link.is_cut for link in links] == [True] * 3 + [False] * 4


async def test_a_stranger_that_is_being_served_is_not_cut() -> None:
    table = Connections(LIMITS)
    busy = [Link(is_busy=True) for _ in range(3)]
    idle, next_one = Link(), Link()

    assert all(table.enter(link) for link in (*busy, idle, next_one))
    assert [link.is_cut for link in (*busy, idle, next_one)] == [False, False, False, True, False]


async def test_where_all_are_being_served_a_new_one_is_refused() -> None:
    table = Connections(LIMITS)

    assert [table.enter(Link(is_busy=True)) for _ in range(5)] == [True] * 4 + [False]


async def test_members_take_the_place_of_strangers_and_keep_it() -> None:
    table = Connections(LIMITS)
    members = [Link(is_busy=True) for _ in range(6)]
    for link in members:
        assert table.enter(link)
        table.sign_in(link)

    assert not table.enter(Link())
    assert not any(link.is_cut for link in members)
    table.leave(members[0])
    assert table.enter(Link())


async def test_an_idle_member_makes_room_where_all_are_members() -> None:
    table = Connections(LIMITS)
    members = [Link() for _ in range(6)]
    for link in members:
        table.enter(link)
        table.sign_in(link)

    assert table.enter(Link())
    assert [link.is_cut for link in members] == [True] + [False] * 5


async def test_an_address_has_its_own_limit_and_an_ipv6_network_is_one_address() -> None:
    table = Connections(LIMITS)
    links = [Link("2001:db8::1"), Link("192.0.2.1"), Link("2001:db8::2"), Link("2001:db8::3")]

    assert all(table.enter(link) for link in links)
    assert [link.is_cut for link in links] == [True, False, False, False]


async def test_loopback_and_proxies_have_no_limit_of_their_own() -> None:
    for address in ("127.0.0.1", "::1", "10.1.1.1"):
        table = Connections(LIMITS)
        links = [Link(address) for _ in range(4)]

        assert all(table.enter(link) for link in links)
        assert not any(link.is_cut for link in links)


async def test_what_has_left_is_counted_no_more() -> None:
    table = Connections(LIMITS)
    for _ in range(100):
        link = Link("192.0.2.1", is_busy=True)
        assert table.enter(link)
        table.sign_in(link)
        table.leave(link)
        table.leave(link)
