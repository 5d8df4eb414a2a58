"""Finds the servers of an address: all sources are asked at once, and the most trusted answer wins."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import GatewayError, RateLimited
from app.mail.offers import Auth, Offer, Protocol, filled
from app.mime.validate import validate_address
from app.services.accounts.autoconfig.guessing import Probe, verified
from app.services.accounts.autoconfig.sources import DiscoveryRequest, Sources, provider_of
from app.wire.autoconfig.providers import KnownProvider, by_domain

__all__ = ["Autoconfig", "FoundServers"]

DEADLINE_SECONDS = 8.0
GRACE_SECONDS = 2.0
"""How long a more trusted source may still answer after another has."""
GUESS_SECONDS = 3.5
KEEP_SECONDS, KEEP_NOTHING_SECONDS = 3600.0, 60.0
CACHE_LIMIT = 1_000
PARALLEL_SEARCHES = 10


@dataclass(frozen=True, slots=True)
class FoundServers:
    """The servers of an address. `offers` are encrypted first, empty if none was found.

    `source`: builtin, autoconfig, well-known, ispdb, srv, autodiscover, mx, guess, or None. `oauth` names the
    authorization server whose tokens the servers accept.
    """

    email: str
    domain: str
    offers: tuple[Offer, ...] = ()
    source: str | None = None
    provider: str | None = None
    oauth: str | None = None

    def of(self, protocol: Protocol) -> tuple[Offer, ...]:
        """Return the servers with this protocol, best first."""
        return tuple(offer for offer in self.offers if offer.protocol is protocol)


class Autoconfig:
    """Finds servers. Caches a result for an hour, and an empty one for a minute."""

    def __init__(self, sources: Sources, probe: Probe, clock: Callable[[], float] = time.monotonic) -> None:
        self._sources = sources
        self._probe = probe
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, FoundServers]] = OrderedDict()
        self._searching = 0

    async def find(self, email: str) -> FoundServers:
        """Return the servers of an address, within 8 s. Never connects to internal addresses.

        Raises InvalidRequest for an invalid address, RateLimited if too many searches run.
        """
        email = validate_address(email, "/email")
        domain = email.rpartition("@")[2].lower()
        if domain.startswith("["):
            return FoundServers(email, domain)
        known = by_domain(domain)
        if known is not None:
            return _result(email, domain, known.offers, "builtin", known)
        return self._remembered(email) or await self._search(DiscoveryRequest(email, domain))

    def _remembered(self, email: str) -> FoundServers | None:
        until, found = self._known.get(email, (0.0, None))
        return found if until > self._clock() else None

    async def _search(self, wanted: DiscoveryRequest) -> FoundServers:
        if self._searching >= PARALLEL_SEARCHES:
            raise RateLimited("Too many look-ups are running")
        self._searching += 1
        try:
            found = await self._ask_all(wanted)
        finally:
            self._searching -= 1
        seconds = KEEP_SECONDS if found.offers else KEEP_NOTHING_SECONDS
        self._known[wanted.email] = (self._clock() + seconds, found)
        self._known.move_to_end(wanted.email)
        if len(self._known) > CACHE_LIMIT:
            self._known.popitem(last=False)
        return found

    async def _ask_all(self, wanted: DiscoveryRequest) -> FoundServers:
        sources = [(name, _offered(source(wanted), wanted)) for name, source in self._sources.in_order()]
        answer = await _first_in_order(sources, DEADLINE_SECONDS - GUESS_SECONDS)
        if answer is None:
            guesses = [("guess", _offered(verified(wanted.domain, self._probe), wanted))]
            answer = await _first_in_order(guesses, GUESS_SECONDS)
        if answer is None:
            return FoundServers(wanted.email, wanted.domain)
        source, offers = answer
        return _result(wanted.email, wanted.domain, offers, source, provider_of(offers))


def _result(
    email: str, domain: str, offers: Sequence[Offer], source: str, provider: KnownProvider | None
) -> FoundServers:
    takes_tokens = any(Auth.OAUTH2 in offer.auth for offer in offers)
    return FoundServers(
        email,
        domain,
        filled(offers, email),
        source,
        provider.name if provider else None,
        provider.oauth if provider and takes_tokens else None,
    )


async def _offered(asking: Awaitable[Sequence[Offer]], wanted: DiscoveryRequest) -> tuple[Offer, ...]:
    """Return a source's offers for an address; empty if it fails, or names no server to read mail from."""
    try:
        offers = filled(await asking, wanted.email)
    except GatewayError:
        return ()
    return offers if any(offer.protocol is not Protocol.SMTP for offer in offers) else ()


async def _first_in_order(
    sources: Sequence[tuple[str, Coroutine[Any, Any, tuple[Offer, ...]]]], seconds: float
) -> tuple[str, tuple[Offer, ...]] | None:
    """Return the first answer, in order, that has offers, of those in time; the other tasks are cancelled."""
    tasks = {asyncio.create_task(asking): name for name, asking in sources}
    try:
        await _until_decided(list(tasks), seconds)
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(((tasks[task], offers) for task in ended if (offers := task.result())), None)


async def _until_decided(tasks: Sequence[asyncio.Task[tuple[Offer, ...]]], seconds: float) -> None:
    """Wait until no better answer can come, or until the time for it is over."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while (remaining := end - loop.time()) > 0:
        best = next((place for place, task in enumerate(tasks) if task.done() and task.result()), len(tasks))
        waiting = [task for task in tasks[:best] if not task.done()]
        if not waiting:
            return
        if best < len(tasks):
            end = min(end, loop.time() + GRACE_SECONDS)
            remaining = min(remaining, GRACE_SECONDS)
        await asyncio.wait(waiting, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
