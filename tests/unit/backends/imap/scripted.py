"""An IMAP server in memory: it answers each command line by a script, and records what it was told."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping

from app.backends.imap.connection import ImapProtocol
from app.backends.imap.session import ClientSession

_COMMAND = re.compile(rb"[^\r\n]*\r\n")
_LITERAL = re.compile(rb"\{([0-9]+)\+\}\r\n\Z")

Answer = str | bytes | Callable[[str], str]


class ScriptedServer(asyncio.Transport):
    """The transport of a protocol, with a server behind it.

    `script` maps the start of a command (without its tag) to the answer; `$` in it stands for the tag. The longest
    start that fits is taken. Commands without an answer get OK.
    """

    def __init__(self, script: Mapping[str, Answer] | None = None) -> None:
        super().__init__()
        self.script = dict(script or {})
        self.told: list[str] = []
        self.sent = b""
        self.reads_on = True
        self.is_closed = False
        self.protocol = ImapProtocol(asyncio.get_running_loop())
        self.protocol.connection_made(self)
        self._rest = b""
        self.idle_tag = ""
        self.idle_answer = ""
        """Instead of what the script says to IDLE."""

    def say(self, data: str | bytes) -> None:
        """The server sends this."""
        if not self.is_closed:
            self.protocol.data_received(data.encode() if isinstance(data, str) else data)

    def greet(self, capabilities: str = "IMAP4rev1", text: str = "ready") -> ImapProtocol:
        self.say(f"* OK [CAPABILITY {capabilities}] {text}\r\n")
        return self.protocol

    # ---- the transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_closed:
            raise RuntimeError("unable to perform operation on a closed transport")  # as uvloop does
        self.sent += bytes(data)
        self._rest += bytes(data)
        while (command := _COMMAND.match(self._rest)) is not None:
            line = command[0]
            if literal := _LITERAL.search(line):
                if len(self._rest) < len(line) + int(literal[1]) + 2:
                    return
                line = self._rest[: self._rest.index(b"\r\n", len(line) + int(literal[1])) + 2]
            self._rest = self._rest[len(line) :]
            text = line.removesuffix(b"\r\n").decode("utf-8", "surrogateescape")
            self.told.append(text.partition(" ")[2] or text)
            asyncio.get_running_loop().call_soon(self._answer, text)

    def _answer(self, line: str) -> None:
        tag, _, command = line.partition(" ")
        if command == "IDLE":
            self.idle_tag = tag
            if self.idle_answer:
                self.say(self.idle_answer.replace("$", tag))
                return
        elif line == "DONE":
            tag, command = self.idle_tag, line
        start = max((start for start in self.script if command.startswith(start)), key=len, default=None)
        answer: Answer = self.script[start] if start is not None else "$ OK done\r\n"
        if callable(answer):
            answer = answer(command)
        self.say(answer.replace("$", tag) if isinstance(answer, str) else answer.replace(b"$", tag.encode()))

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.reads_on = False

    def resume_reading(self) -> None:
        self.reads_on = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default


SELECTED = (
    "* FLAGS (\\Seen \\Deleted)\r\n* OK [PERMANENTFLAGS (\\Seen \\Deleted \\*)]\r\n* 3 EXISTS\r\n"
    "* OK [UIDVALIDITY 7] valid\r\n* OK [UIDNEXT 10] next\r\n$ OK [READ-WRITE] selected\r\n"
)


def scripted_session(
    script: Mapping[str, Answer] | None = None,
    capabilities: str = "IMAP4rev1",
    enabled: Iterable[str] = (),
    greeting: str = "ready",
) -> tuple[ClientSession, ScriptedServer]:
    """A session that is logged in to such a server."""
    server = ScriptedServer({"SELECT": SELECTED, **(script or {})})
    session = ClientSession(server.greet(capabilities, greeting))
    session.enabled = frozenset(enabled)
    return session, server


def verbs(server: ScriptedServer) -> list[str]:
    """The names of the commands that a server was told, without UID."""
    return [line.removeprefix("UID ").split()[0] for line in server.told]
