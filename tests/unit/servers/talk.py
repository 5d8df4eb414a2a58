"""Drives a conversation without a socket: bytes in, bytes out."""

from __future__ import annotations

from app.servers.conversation import Client, Close, Conversation, Reply, StartTls, Step, Work


def local_peer(*, address: str = "127.0.0.1", is_encrypted: bool = False, can_start_tls: bool = True) -> Client:
    return Client(address, address.startswith("127."), is_encrypted, can_start_tls)


class Talk:
    """A client at a conversation. `is_over` after Close."""

    def __init__(self, conversation: Conversation, peer: Client) -> None:
        self.conversation = conversation
        self.peer = peer
        self.is_over = False
        self._said: list[bytes] = []
        self.greeting = conversation.greet()

    async def send(self, data: bytes) -> None:
        """What a Work sends."""
        self._said.append(data)

    async def say(self, *pieces: bytes) -> bytes:
        """Send pieces one after another; all that is answered."""
        for piece in pieces or (b"",):
            if self.is_over:
                break
            self.conversation.receive(piece)
            await self._steps()
        answer = b"".join(self._said)
        self._said.clear()
        return answer

    async def say_bytewise(self, data: bytes) -> bytes:
        return await self.say(*(bytes([one]) for one in data))

    async def _steps(self) -> None:
        while not self.is_over and (step := self.conversation.next_step()) is not None:
            await self._do(step)

    async def _do(self, step: Step) -> None:
        match step:
            case Reply(data):
                self._said.append(data)
            case Work(run):
                await run(self)
            case StartTls(reply):
                self._said.append(reply)
                self.peer.is_encrypted = True
            case Close(reply):
                self._said.append(reply)
                self.is_over = True
