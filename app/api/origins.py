"""Web origins that may call the API (Fetch §3.2, RFC 6454): from the CORS setting and from tokens."""

from __future__ import annotations

from urllib.parse import urlsplit

from app.services.access.callers import Caller
from app.services.access.origins import KnownOrigins
from app.settings import Settings

SESSION_PATH = "/v1/session"
"""Sign-in with a password has no token, so only the setting's origins count."""


def is_of_install(origin: str, host: str, settings: Settings) -> bool:
    """Whether an origin is Postgate's own or in the CORS setting.

    Without PUBLIC_URL its own origin is the origin that equals `host`, the Host header; with an empty `host` none.
    """
    if origin in settings.cors_origins:
        return True
    if settings.public_url is not None:
        return origin == _origin_of(settings.public_url)
    return host != "" and origin.partition("://")[2] == host


def is_allowed(origin: str, host: str, settings: Settings, caller: Caller) -> bool:
    """Whether a web page of `origin` may use this caller's token."""
    if caller.origins is None:
        return is_of_install(origin, host, settings)
    # without PUBLIC_URL a Host that equals the origin proves nothing: DNS rebinding can point any name at Postgate
    return origin in caller.origins or is_of_install(origin, "", settings)


async def may_ask(origin: str, host: str, path: str, settings: Settings, known: KnownOrigins) -> bool:
    """Whether a web page of `origin` may call this path, judged without its token."""
    if is_of_install(origin, host, settings):
        return True
    return not is_session(path) and await known.knows(origin)


def is_session(path: str) -> bool:
    return path == SESSION_PATH or path.startswith(SESSION_PATH + "/")


def is_own_host(host: str, settings: Settings) -> bool:
    """Whether a Host header has the host of PUBLIC_URL; true without PUBLIC_URL."""
    if settings.public_url is None:
        return True
    scheme, _, own = _origin_of(settings.public_url).partition("://")
    return _without_port(scheme, host.lower()) == own


def _origin_of(url: str) -> str:
    """Return the origin of a URL as browsers write it: without path and default port."""
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{_without_port(parts.scheme, parts.netloc)}"


def _without_port(scheme: str, host: str) -> str:
    """Return a host without the scheme's default port."""
    return host.removesuffix({"http": ":80", "https": ":443"}.get(scheme, "\0"))
