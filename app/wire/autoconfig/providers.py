"""A table of the servers of large providers, looked up by the domain of an address or by its MX hosts."""

from __future__ import annotations

from dataclasses import dataclass

from app.mail.offers import EMAIL, LOCAL_PART, Auth, Offer, Protocol
from app.mail.types import TransportSecurity

_BOTH = (Auth.OAUTH2, Auth.PASSWORD)


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A mail provider. `name` is its public name; `oauth` is its authorization server, None without OAuth.

    `mx_suffixes`: suffixes of the MX hosts of domains that the provider serves.
    """

    name: str
    domains: frozenset[str]
    mx_suffixes: tuple[str, ...]
    offers: tuple[Offer, ...]
    oauth: str | None = None


def _offers(
    imap: str, smtp: str, pop3: str | None = None, *, username: str = EMAIL, auth: tuple[Auth, ...] = (Auth.PASSWORD,)
) -> tuple[Offer, ...]:
    """The usual offers: implicit TLS for all protocols. An SMTP host that ends in ":587" uses STARTTLS."""
    host, _, port = smtp.partition(":")
    security = TransportSecurity.STARTTLS if port else TransportSecurity.TLS
    offers = [
        Offer(Protocol.IMAP, imap, 993, TransportSecurity.TLS, username, auth),
        Offer(Protocol.SMTP, host, int(port or 465), security, EMAIL, auth),
    ]
    if pop3 is not None:
        offers.append(Offer(Protocol.POP3, pop3, 995, TransportSecurity.TLS, username, auth))
    return tuple(offers)


def _domains(text: str) -> frozenset[str]:
    return frozenset(text.split())


PROVIDERS = (
    KnownProvider(
        "google",
        _domains("gmail.com googlemail.com"),
        (".google.com", ".googlemail.com"),
        _offers("imap.gmail.com", "smtp.gmail.com", "pop.gmail.com", auth=_BOTH),
        "google",
    ),
    KnownProvider(
        "microsoft",
        _domains("outlook.com hotmail.com live.com msn.com hotmail.co.uk hotmail.fr hotmail.de outlook.de outlook.fr"),
        (".mail.protection.outlook.com", ".olc.protection.outlook.com", ".mx.microsoft"),
        _offers("outlook.office365.com", "smtp.office365.com:587", "outlook.office365.com", auth=(Auth.OAUTH2,)),
        "microsoft",
    ),
    KnownProvider(
        "yahoo",
        _domains("yahoo.com ymail.com rocketmail.com yahoo.co.uk yahoo.fr yahoo.de yahoo.it yahoo.es yahoo.ca"),
        (".yahoodns.net",),
        _offers("imap.mail.yahoo.com", "smtp.mail.yahoo.com", "pop.mail.yahoo.com", auth=_BOTH),
        "yahoo",
    ),
    KnownProvider(
        "aol",
        _domains("aol.com aim.com"),
        (),
        _offers("imap.aol.com", "smtp.aol.com", "pop.aol.com", auth=_BOTH),
        "yahoo",
    ),
    KnownProvider(
        "icloud",
        _domains("icloud.com me.com mac.com"),
        (".mail.icloud.com",),
        _offers("imap.mail.me.com", "smtp.mail.me.com:587", username=LOCAL_PART),
    ),
    KnownProvider(
        "fastmail",
        _domains("fastmail.com fastmail.fm"),
        (".messagingengine.com",),
        _offers("imap.fastmail.com", "smtp.fastmail.com", "pop.fastmail.com"),
    ),
    KnownProvider(
        "zoho",
        _domains("zoho.com zohomail.com"),
        (".zoho.com",),
        _offers("imap.zoho.com", "smtp.zoho.com", "pop.zoho.com"),
    ),
    KnownProvider(
        "gmx",
        _domains("gmx.net gmx.de gmx.at gmx.ch"),
        (".gmx.net",),
        _offers("imap.gmx.net", "mail.gmx.net", "pop.gmx.net"),
    ),
    KnownProvider(
        "gmx",
        _domains("gmx.com gmx.us gmx.co.uk"),
        (),
        _offers("imap.gmx.com", "mail.gmx.com", "pop.gmx.com"),
    ),
    KnownProvider(
        "web.de",
        _domains("web.de"),
        (".web.de",),
        _offers("imap.web.de", "smtp.web.de:587", "pop3.web.de"),
    ),
    KnownProvider(
        "mailboxorg",
        _domains("mailbox.org secure.mailbox.org"),
        (".mailbox.org",),
        _offers("imap.mailbox.org", "smtp.mailbox.org", "pop3.mailbox.org"),
    ),
    KnownProvider(
        "yandex",
        _domains("yandex.com yandex.ru ya.ru"),
        (".yandex.ru", ".yandex.net"),
        _offers("imap.yandex.com", "smtp.yandex.com", "pop.yandex.com"),
    ),
)

_BY_DOMAIN = {domain: provider for provider in PROVIDERS for domain in provider.domains}
_SUFFIXES = tuple((suffix, provider) for provider in PROVIDERS for suffix in provider.mx_suffixes)


def by_domain(domain: str) -> KnownProvider | None:
    """The provider of addresses in this domain, or None."""
    return _BY_DOMAIN.get(domain.lower())


def by_exchanger(host: str) -> KnownProvider | None:
    """The provider whose MX record points to this host, or None."""
    name = f".{host.lower().rstrip('.')}"
    return next((provider for suffix, provider in _SUFFIXES if name.endswith(suffix)), None)


def by_server(host: str) -> KnownProvider | None:
    """The provider with a server of this host name, or None."""
    matches = (provider for provider in PROVIDERS if any(offer.host == host.lower() for offer in provider.offers))
    return next(matches, None)
