"""An SMTP server with AUTH, STARTTLS and implicit TLS that keeps what it gets and misbehaves when told to."""

import asyncio
import base64
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, AnyStr, Literal

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.servers.process import free_port
from tests.servers.tls import EXPIRED_ADDRESS, GOOD_ADDRESS, WRONG_HOST_ADDRESS, Certificate, TlsFiles

Phase = Literal["connect", "ehlo", "auth", "mail", "rcpt", "data", "body", "reply"]
"""`data` is the command before its 354, `body` the message after it, `reply` the answer to a message already kept."""

_START_SECONDS = 10.0
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """What one transaction brought; a bounce's `sender` is empty, `content` has CRLF and no dot-stuffing."""

    sender: str
    recipients: list[str]
    content: bytes
    mail_options: list[str]
    user: str | None
    is_encrypted: bool


class SmtpSink:
    """The server; set its public fields before a client connects.

    `host` shows a good certificate, `wrong_host` and `expired_host` a bad one on the same ports.
    """

    host = GOOD_ADDRESS
    wrong_host = WRONG_HOST_ADDRESS
    expired_host = EXPIRED_ADDRESS

    def __init__(
        self,
        tls: TlsFiles,
        *,
        user: str = "relay",
        password: str = "relay-secret",
        is_token_valid: Callable[[str, str], bool] | None = None,
    ) -> None:
        """With `is_token_valid` (user, access token) it offers XOAUTH2 and OAUTHBEARER too."""
        self.user, self.password = user, password
        self._is_token_valid = is_token_valid
        self.requires_auth = True
        self.requires_tls = False
        self.replies: dict[Phase | str, str] = {}
        """The answer instead of 250, by phase (`mail`, `data`, `reply`) or by recipient (`"bob@x.test"`)."""
        self.delays_seconds: dict[Phase, float] = {}
        self.port, self.tls_port = free_port(), free_port()
        self._tls = tls
        self._drops: Counter[Phase] = Counter()
        self._messages: list[ReceivedMessage] = []
        self._arrived = threading.Condition()
        self._connections: set[_Connection] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="smtp-sink", daemon=True)
        self._is_listening = threading.Event()

    def start(self) -> None:
        """Listen on both ports."""
        self._thread.start()
        if not self._is_listening.wait(_START_SECONDS):
            raise TimeoutError("the SMTP sink does not listen")

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_START_SECONDS)

    def drop(self, phase: Phase, times: int = 1) -> None:
        """Cut the connection without a word the next `times` that a client reaches `phase`."""
        self._drops[phase] = times

    @property
    def messages(self) -> list[ReceivedMessage]:
        """All messages so far, in order of arrival."""
        with self._arrived:
            return list(self._messages)

    def wait_for(self, count: int, deadline_seconds: float = 10.0) -> list[ReceivedMessage]:
        """Return all messages once there are `count`; raises TimeoutError. Blocks: see `received` for async tests."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._messages) >= count, deadline_seconds):
                raise TimeoutError(f"{len(self._messages)} of {count} messages after {deadline_seconds} s")
            return list(self._messages)

    async def received(self, count: int, deadline_seconds: float = 10.0) -> list[ReceivedMessage]:
        """Return all messages once there are `count`; raises TimeoutError."""
        return await asyncio.to_thread(self.wait_for, count, deadline_seconds)

    async def _serve(self) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        listeners = await self._listen()
        self._is_listening.set()
        await self._closing.wait()
        for listener in listeners:
            listener.close()
        open_connections = list(self._connections)
        for connection in open_connections:
            _cut(connection)
        async with asyncio.timeout(_CLOSE_SECONDS):
            for connection in open_connections:
                await connection.is_lost.wait()

    async def _listen(self) -> list[asyncio.Server]:
        certificates = {
            self.host: self._tls.good,
            self.wrong_host: self._tls.wrong_host,
            self.expired_host: self._tls.expired,
        }
        listeners = []
        for address, certificate in certificates.items():
            context = certificate.server_context()
            plain = await self._loop.create_server(self._factory(certificate), address, self.port)
            listeners += [
                plain,
                await self._loop.create_server(self._factory(None), address, self.tls_port, ssl=context),
            ]
        return listeners

    def _factory(self, starttls: Certificate | None) -> Callable[[], SMTP]:
        """Return a maker of one protocol a connection; it reads the sink's settings at that moment."""

        def make() -> SMTP:
            return _Connection(
                self._connections,
                _Conversation(self) if self._is_token_valid is None else _TokenConversation(self, self._is_token_valid),
                hostname="relay.test",
                enable_SMTPUTF8=True,
                tls_context=starttls.server_context() if starttls else None,
                auth_require_tls=self.requires_tls and starttls is not None,
                authenticator=self._authenticate,
                loop=self._loop,
            )

        return make

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword
    ) -> AuthResult:
        is_right = (login.login, login.password) == (self.user.encode(), self.password.encode())
        return AuthResult(success=is_right, handled=False, auth_data=login)

    def _keep(self, message: ReceivedMessage) -> None:
        with self._arrived:
            self._messages.append(message)
            self._arrived.notify_all()

    async def _reach(self, server: SMTP, phase: Phase) -> None:
        """Wait and cut as told; a cut never returns, for aiosmtpd cancels the conversation of a lost connection."""
        await asyncio.sleep(self.delays_seconds.get(phase, 0))
        if self._drops[phase] > 0:
            self._drops[phase] -= 1
            _cut(server)
            await asyncio.Event().wait()


class _Connection(SMTP):
    """aiosmtpd's protocol with the phases that its hooks don't reach; a member of `alive` until its line is lost."""

    def __init__(self, alive: "set[_Connection]", conversation: "_Conversation", **settings: Any) -> None:
        super().__init__(conversation, **settings)
        self.is_lost = asyncio.Event()
        self._alive = alive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._alive.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._alive.discard(self)
        self.is_lost.set()
        super().connection_lost(error)

    async def _handle_client(self) -> None:
        await self.event_handler.reach(self, "connect")
        await super()._handle_client()

    async def smtp_DATA(self, arg: str) -> None:
        await self.event_handler.reach(self, "data")
        if reply := self.event_handler.sink.replies.get("data"):
            await self.push(reply)
            return
        await super().smtp_DATA(arg)

    async def push(self, status: AnyStr) -> None:
        await super().push(status)
        if isinstance(status, str) and status.startswith("354 "):
            await self.event_handler.reach(self, "body")


class _Conversation:
    """aiosmtpd's hooks for one connection."""

    def __init__(self, sink: SmtpSink) -> None:
        self.sink = sink
        self.reach = sink._reach

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        await self.reach(server, "ehlo")
        session.host_name = hostname
        return responses

    async def handle_AUTH(self, server: SMTP, session: Session, envelope: Envelope, args: list[str]) -> object:
        await self.reach(server, "auth")
        return MISSING

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> object:
        await self.reach(server, "mail")
        if self.sink.requires_auth and not session.authenticated:
            return "530 5.7.0 Authentication required"
        return self.sink.replies.get("mail", MISSING)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> object:
        await self.reach(server, "rcpt")
        return self.sink.replies.get(address, MISSING)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if refusal := self.sink.replies.get("reply"):
            return refusal
        assert isinstance(envelope.original_content, bytes)
        self.sink._keep(
            ReceivedMessage(
                sender=(envelope.mail_from or "").removeprefix("<>"),  # aiosmtpd's name for the null sender
                recipients=list(envelope.rcpt_tos),
                content=envelope.original_content,
                mail_options=list(envelope.mail_options),
                user=_user(session),
                is_encrypted=_is_encrypted(server),
            )
        )
        await self.reach(server, "reply")
        return "250 2.0.0 Kept"


class _TokenConversation(_Conversation):
    """Logs in by access token. A refusal is a challenge first, and nothing goes on before it is answered."""

    def __init__(self, sink: SmtpSink, is_valid: Callable[[str, str], bool]) -> None:
        super().__init__(sink)
        self._is_valid = is_valid

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:
        fields = dict(one.split("=", 1) for one in _initial(args).split("\1") if "=" in one)
        return await self._check(server, fields.get("user", ""), fields.get("auth", ""), b"")

    async def auth_OAUTHBEARER(self, server: SMTP, args: list[str]) -> AuthResult:
        header, *rest = _initial(args).split("\1")
        fields = dict(one.split("=", 1) for one in rest if "=" in one)
        return await self._check(server, header.split(",")[1].removeprefix("a="), fields.get("auth", ""), b"\1")

    async def _check(self, server: SMTP, user: str, auth: str, expected: bytes) -> AuthResult:
        token = auth.removeprefix("Bearer ")
        if await asyncio.to_thread(self._is_valid, user, token):
            return AuthResult(success=True, auth_data=LoginPassword(user.encode(), token.encode()))
        answer = await server.challenge_auth('{"status":"401"}')
        if answer != expected:
            await server.push("501 5.5.2 That is no answer to an error")
            return AuthResult(success=False, handled=True)
        return AuthResult(success=False, handled=False)


def _initial(args: list[str]) -> str:
    return base64.b64decode(args[1]).decode()


def _user(session: Session) -> str | None:
    login = session.auth_data
    return login.login.decode() if isinstance(login, LoginPassword) and session.authenticated else None


def _is_encrypted(server: SMTP) -> bool:
    assert isinstance(server.transport, asyncio.BaseTransport)
    return server.transport.get_extra_info("ssl_object") is not None


def _cut(connection: SMTP) -> None:
    transport = connection.transport
    if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
        transport.abort()
