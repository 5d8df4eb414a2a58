"""Which pages may call (Fetch §3.2, RFC 6454): by the install's list, and by the lists of tokens."""

from __future__ import annotations

from urllib.parse import urlsplit

from app.services.access.callers import Caller
from app.services.access.origins import KnownOrigins
from app.settings import Settings

SESSION_PATH = "/v1/session"
"""Pages sign in here: with a password, so no token's list counts."""


def is_of_install(origin: str, host: str, settings: Settings) -> bool:
    """Whether an origin is our own, or one of the install's list.

    Without PUBLIC_URL our own is the one that equals `host`, the Host header; where `host` is empty, none is.
    """
    if origin in settings.cors_origins:
        return True
    if settings.public_url is not None:
        return origin == _origin_of(settings.public_url)
    return host != "" and origin.partition("://")[2] == host


def is_allowed(origin: str, host: str, settings: Settings, caller: Caller) -> bool:
    """Whether a page of `origin` may use this caller's token."""
    if caller.origins is None:
        return is_of_install(origin, host, settings)
    # without PUBLIC_URL a Host that equals the origin proves nothing: a name may be rebound to our address
    return origin in caller.origins or is_of_install(origin, "", settings)


async def may_ask(origin: str, host: str, path: str, settings: Settings, known: KnownOrigins) -> bool:
    """Whether a page of `origin` may call this path, as far as can be said without its token."""
    if is_of_install(origin, host, settings):
        return True
    return not is_session(path) and await known.knows(origin)


def is_session(path: str) -> bool:
    return path == SESSION_PATH or path.startswith(SESSION_PATH + "/")


def is_own_host(host: str, settings: Settings) -> bool:
    """Whether a Host header names this install, as far as PUBLIC_URL says what its name is."""
    if settings.public_url is None:
        return True
    scheme, _, own = _origin_of(settings.public_url).partition("://")
    return _without_port(scheme, host.lower()) == own


def _origin_of(url: str) -> str:
    """The origin of a URL as browsers write it: without path and default port."""
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{_without_port(parts.scheme, parts.netloc)}"


def _without_port(scheme: str, host: str) -> str:
    """A host without the port that is the scheme's own."""
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, "\0"))
