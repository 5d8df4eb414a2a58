"""Builds the service that finds the mail servers of an address."""

from __future__ import annotations

from app.runtime.backends import tls_context
from app.security.netguard import NetGuard
from app.services.accounts.autoconfig import Autoconfig
from app.services.accounts.autoconfig.fetching import Fetcher
from app.services.accounts.autoconfig.guessing import greeting_probe
from app.services.accounts.autoconfig.names import DomainNames
from app.services.accounts.autoconfig.sources import Sources
from app.settings import Settings


def autoconfig_on(settings: Settings, guard: NetGuard) -> Autoconfig:
    tls = tls_context(settings)
    sources = Sources(Fetcher(guard, tls), DomainNames(settings.dns_servers), settings.autoconfig_ispdb_url)
    return Autoconfig(sources, greeting_probe(guard, tls))
