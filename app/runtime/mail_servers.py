"""The embedded mail servers: maps ports to conversations."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from app.errors import InvalidRequest
from app.runtime.listening import CannotListen
from app.security.addresses import Proxies
from app.servers.admission import Admission, ConnectionLimits
from app.servers.conversation import Client, Conversation
from app.servers.imap.conversation import imap_answer
from app.servers.imap.session import ImapServices
from app.servers.listener import Listener, UnauthenticatedTime
from app.servers.smtp import ListenerRole, SmtpConversation, SmtpSite
from app.services.access.watch import AccessWatch
from app.settings import Settings

Answer = Callable[[Client], Conversation]

_WITHOUT_LOGIN = UnauthenticatedTime(300.0, is_earned=True)
"""Limit between messages for ports without a login: connections of mail servers."""


class EmbeddedServers:
    """Starts and stops the listeners. `ports` maps their names to ports."""

    def __init__(
        self,
        settings: Settings,
        access: AccessWatch,
        imap: ImapServices,
        smtp: Callable[[ListenerRole], SmtpSite],
        pop3: Answer,
        connections: int = 10_000,
    ) -> None:
        self._settings = settings
        self._tls = _server_tls(settings)
        self._admission = Admission(_limits(settings, connections), access)
        self._answers: dict[str, Answer] = {
            "imap": imap_answer(imap),
            "pop3": pop3,
            "submission": lambda peer: SmtpConversation(peer, smtp(ListenerRole.SUBMISSION)),
            "smtp": lambda peer: SmtpConversation(peer, smtp(ListenerRole.MX)),
            "lmtp": lambda peer: SmtpConversation(peer, smtp(ListenerRole.LMTP)),
        }
        self._listeners: list[Listener] = []
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Listen on every configured port. Raises CannotListen if one is in use."""
        for name, answer in self._answers.items():
            listener = self._listener(name, answer)
            self._listeners.append(listener)
            await self._listen(listener, name, is_implicit_tls=False)
            if name in ("imap", "pop3", "submission"):
                await self._listen(listener, f"{name}s", is_implicit_tls=True)

    def _listener(self, name: str, answer: Answer) -> Listener:
        settings, has_login = self._settings, name in ("imap", "pop3", "submission")
        return Listener(
            name,
            answer,
            self._admission,
            self._tls,
            stranger_time=UnauthenticatedTime(settings.mail_login_seconds) if has_login else _WITHOUT_LOGIN,
            proxies=Proxies(settings.trusted_proxies if settings.proxy_protocol else ()),
        )

    async def _listen(self, listener: Listener, name: str, *, is_implicit_tls: bool) -> None:
        port = getattr(self._settings, f"{name}_port")
        if port is None:
            return
        try:
            self.ports[name] = await listener.start(self._settings.bind, port, is_implicit_tls=is_implicit_tls)
        except OSError as error:
            raise CannotListen(name, self._settings.bind, port, error) from None

    async def close(self) -> None:
        """Let every conversation finish its command, then stop."""
        await asyncio.gather(*(listener.close() for listener in self._listeners))


def _limits(settings: Settings, connections: int) -> ConnectionLimits:
    """Half of the connections are reserved for clients that have logged in."""
    strangers = max(1, min(1_000, connections // 2))
    return ConnectionLimits(connections, strangers, proxies=Proxies(settings.trusted_proxies))


def _server_tls(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context with the mail servers' certificate, or None. Raises InvalidRequest if it cannot be used."""
    if settings.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidRequest(f"The certificate of the mail servers cannot be used: {error}") from None
    return context
