"""A conversation without a socket: bytes in, what it sends out, on a store in a temporary folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.mailstore.texts import TextIndex
from app.mailstore.views import MailboxViews
from app.servers.conversation import Client, Close, Reply, StartTls, Work
from app.servers.imap.conversation import ImapConversation
from app.servers.imap.session import ImapServices

from tests.harness import Harness

USER, PASSWORD = "ann@example.test", "secret"
MAX_MESSAGE_BYTES = 1024 * 1024


def services_of(harness: Harness) -> ImapServices:
    views = MailboxViews(harness.database)
    return ImapServices(
        harness.store,
        harness.reader,
        views,
        harness.bus,
        harness.logins,
        TextIndex(harness.database),
        MAX_MESSAGE_BYTES,
    )


def peer(*, is_loopback: bool = True, is_encrypted: bool = False, can_start_tls: bool = True) -> Client:
    return Client("127.0.0.1" if is_loopback else "192.0.2.1", is_loopback, is_encrypted, can_start_tls)


@dataclass(slots=True)
class Talk:
    """Plays the pump. `sent` gathers the conversation's bytes; `ended` once it closed."""

    conversation: ImapConversation
    peer: Client
    sent: bytearray = field(default_factory=bytearray)
    ended: bool = False
    tls_started: bool = False

    @classmethod
    def start(cls, harness: Harness, client: Client | None = None) -> Talk:
        client = client or peer()
        talk = cls(ImapConversation(services_of(harness), client), client)
        talk.sent += talk.conversation.greet()
        return talk

    @classmethod
    async def logged_in(cls, harness: Harness, *commands: str) -> Talk:
        """A session in which these commands have been given."""
        talk = cls.start(harness)
        for command in (f"LOGIN {USER} {PASSWORD}", *commands):
            answers = await talk.say(command)
            assert answers[-1].startswith(b"a OK"), answers
        return talk

    async def send(self, data: bytes) -> None:
        """What the outlet gets."""
        self.sent += data

    async def feed(self, data: bytes) -> bytes:
        """Give bytes; what is sent in answer."""
        self.conversation.receive(data)
        return await self.steps()

    async def steps(self) -> bytes:
        before = len(self.sent)
        while not self.ended and (step := self.conversation.next_step()) is not None:
            match step:
                case Reply(reply):
                    self.sent += reply
                case Work(run):
                    await run(self)
                case StartTls(reply):
                    self.sent += reply
                    self.peer.is_encrypted = self.tls_started = True
                case Close(reply):
                    self.sent += reply
                    self.ended = True
        return bytes(self.sent[before:])

    async def say(self, command: str | bytes) -> list[bytes]:
        """The lines that answer a command with tag `a`."""
        text = command.encode() if isinstance(command, str) else command
        return (await self.feed(b"a " + text + b"\r\n")).split(b"\r\n")[:-1]

    async def wake(self) -> list[bytes]:
        """What is sent because of a poke, where there was one."""
        topics, self.peer.waiter.topics = self.peer.waiter.topics, set()
        if topics:
            self.conversation.woken(topics)
        return (await self.steps()).split(b"\r\n")[:-1]
