"""What a command's module declares: who does the command, when it may come, and what CAPABILITY says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.session import Capability, Session
from app.wire.imap.request import Command, NumberedCommand

C = TypeVar("C", bound=Command)


class State(Enum):
    """When a command may come (RFC 9051 §3)."""

    ANY = "any"
    GUEST = "before login"
    USER = "after login"
    SELECTED = "with a mailbox selected"


def always(_command: Command) -> bool:
    return True


def with_uids(command: NumberedCommand) -> bool:
    """No EXPUNGE may be sent while a command uses sequence numbers (RFC 9051 §7.5.1)."""
    return command.is_uid


@dataclass(frozen=True, slots=True)
class Handler(Generic[C]):
    """How commands of one type are done.

    `run` sends the untagged answers itself and returns the tagged one; None starts a dialogue, which
    `Session.read_line` completes. `capabilities` are the words that it adds to CAPABILITY. `may_expunge` says whether
    untagged EXPUNGE and VANISHED may be sent before the command is completed.
    """

    command: type[C]
    run: Callable[[Session, C, ReplyWriter], Awaitable[Completion | None]]
    state: State = State.USER
    capabilities: tuple[Capability, ...] = ()
    may_expunge: Callable[[C], bool] = always

    def why_not(self, session: Session) -> str:
        """Why the command can't come now; "" where it can."""
        is_user = session.account_id is not None
        is_right = {
            State.ANY: True,
            State.GUEST: not is_user,
            State.USER: is_user,
            State.SELECTED: session.view is not None,
        }[self.state]
        return "" if is_right else f"This command is only possible {self.state.value}"


Handlers = tuple[Handler[Any], ...]
