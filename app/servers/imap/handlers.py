"""What a command's module declares: its handler, the states in which it is valid, and its capabilities."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.session import Capability, ServerSession
from app.wire.imap.request import Command, NumberedCommand

C = TypeVar("C", bound=Command)


class SessionState(Enum):
    """The states in which a command is valid (RFC 9051 §3)."""

    ANY = "any"
    GUEST = "before login"
    USER = "after login"
    SELECTED = "with a mailbox selected"


def always(_command: Command) -> bool:
    return True


def with_uids(command: NumberedCommand) -> bool:
    """Whether the command uses UIDs. With sequence numbers, EXPUNGE must not be sent during it (RFC 9051 §7.5.1)."""
    return command.is_uid


@dataclass(frozen=True, slots=True)
class Handler(Generic[C]):
    """The handler of one type of command.

    `run` sends untagged responses and returns the tagged response; None starts a dialogue, which
    `ServerSession.read_line` completes. `capabilities` are the words that it adds to CAPABILITY. `may_expunge` returns
    whether untagged EXPUNGE and VANISHED may be sent before the completion.
    """

    command: type[C]
    run: Callable[[ServerSession, C, ReplyWriter], Awaitable[Completion | None]]
    state: SessionState = SessionState.USER
    capabilities: tuple[Capability, ...] = ()
    may_expunge: Callable[[C], bool] = always

    def why_not(self, session: ServerSession) -> str:
        """Return why the command is not valid now; "" if it is."""
        is_user = session.account_id is not None
        is_valid = {
            SessionState.ANY: True,
            SessionState.GUEST: not is_user,
            SessionState.USER: is_user,
            SessionState.SELECTED: session.view is not None,
        }[self.state]
        return "" if is_valid else f"This command is only possible {self.state.value}"


Handlers = tuple[Handler[Any], ...]
