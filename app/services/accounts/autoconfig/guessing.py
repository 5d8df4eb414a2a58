"""The usual host names of mail servers, used only if a server of that kind answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

from app.errors import GatewayError
from app.mail.offers import Offer, Protocol
from app.mail.types import TransportSecurity
from app.security.netguard import NetGuard

PROBE_SECONDS = 3.0
GREETING_BYTES = 512

Probe = Callable[[Offer], Awaitable[bool]]
"""Whether a server of this kind sends a greeting."""

_GREETINGS = {Protocol.IMAP: b"* OK", Protocol.SMTP: b"220", Protocol.POP3: b"+OK"}
_TLS, _STARTTLS = TransportSecurity.TLS, TransportSecurity.STARTTLS
_USUAL = (
    (Protocol.IMAP, ("imap", "mail"), ((993, _TLS), (143, _STARTTLS))),
    (Protocol.SMTP, ("smtp", "mail"), ((465, _TLS), (587, _STARTTLS))),
    (Protocol.POP3, ("pop", "mail"), ((995, _TLS),)),
)


def usual(domain: str) -> list[Offer]:
    """Return the servers that a domain probably has, best first."""
    return [
        Offer(protocol, f"{name}.{domain}", port, security)
        for protocol, names, ways in _USUAL
        for port, security in ways
        for name in names
    ]


async def verified(domain: str, probe: Probe) -> list[Offer]:
    """Return those of the usual servers that answer, asked concurrently."""
    guesses = usual(domain)
    answers = await asyncio.gather(*(probe(offer) for offer in guesses))
    return [guess for guess, is_there in zip(guesses, answers, strict=True) if is_there]


def greeting_probe(guard: NetGuard, tls: ssl.SSLContext) -> Probe:
    """Return a probe that reads the greeting of a server at a checked address.

    If TLS is implicit, the certificate must be valid.
    """

    async def probe(offer: Offer) -> bool:
        with suppress(GatewayError, OSError, TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                return (await _greeting(offer, guard, tls)).startswith(_GREETINGS[offer.protocol])
        return False

    return probe


async def _greeting(offer: Offer, guard: NetGuard, tls: ssl.SSLContext) -> bytes:
    address = (await guard.addresses(offer.host))[0]
    secured = {"ssl": tls, "server_hostname": offer.host} if offer.security is _TLS else {}
    reader, writer = await asyncio.open_connection(address, offer.port, **secured)  # type: ignore[arg-type]
    try:
        return await reader.read(GREETING_BYTES)
    finally:
        writer.transport.abort()
