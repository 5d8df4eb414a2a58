"""The table of commands: which function does it, and in which state of the session it may come (RFC 9051 §3)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from app.servers.conversation import Outlet
from app.servers.imap import append, copying, fetch, listing, login, mailboxes, notify, search, selection, store
from app.servers.imap.answers import Completion
from app.servers.imap.session import Session
from app.wire.imap import requests as r

Run = Callable[[Session, Any, Outlet], Awaitable[Completion | None]]
"""Does a command; sends untagged answers itself. None starts a dialogue, which `Session.read_line` completes."""


class State(Enum):
    ANY = "any"
    GUEST = "before login"
    USER = "after login"
    SELECTED = "with a mailbox selected"


@dataclass(frozen=True, slots=True)
class Handler:
    run: Run
    state: State = State.USER

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


async def _refuse(_session: Session, _command: object, _out: Outlet) -> Completion:
    return Completion("This is not offered", status="BAD")


_UNKNOWN = Handler(_refuse, State.ANY)

SIMPLE: dict[str, Handler] = {
    "CAPABILITY": Handler(login.tell_capabilities, State.ANY),
    "NOOP": Handler(login.noop, State.ANY),
    "NAMESPACE": Handler(login.tell_namespace),
    "IDLE": Handler(login.idle),
    "CHECK": Handler(login.noop, State.SELECTED),
    "CLOSE": Handler(selection.close, State.SELECTED),
    "UNSELECT": Handler(selection.unselect, State.SELECTED),
    "EXPUNGE": Handler(copying.expunge, State.SELECTED),
}
COMMANDS: dict[type, Handler] = {
    r.Login: Handler(login.log_in, State.GUEST),
    r.Authenticate: Handler(login.authenticate, State.GUEST),
    r.Identify: Handler(login.identify, State.ANY),
    r.Enable: Handler(login.enable),
    r.Select: Handler(selection.select),
    r.Create: Handler(mailboxes.create),
    r.Delete: Handler(mailboxes.delete),
    r.Rename: Handler(mailboxes.rename),
    r.Subscribe: Handler(mailboxes.subscribe),
    r.ListMailboxes: Handler(listing.list_mailboxes),
    r.MailboxStatusOf: Handler(listing.status),
    r.Append: Handler(append.append),
    r.Notify: Handler(notify.notify),
    r.Fetch: Handler(fetch.fetch, State.SELECTED),
    r.Store: Handler(store.store, State.SELECTED),
    r.Search: Handler(search.search, State.SELECTED),
    r.Copy: Handler(copying.copy, State.SELECTED),
    r.UidExpunge: Handler(copying.uid_expunge, State.SELECTED),
}


def find_handler(command: r.Command) -> Handler:
    """How a command is done; what is not offered is answered with BAD."""
    if isinstance(command, r.Simple):
        return SIMPLE.get(command.name, _UNKNOWN)
    return COMMANDS.get(type(command), _UNKNOWN)


def may_expunge(command: r.Command) -> bool:
    """Whether EXPUNGE may be told before this command is completed (RFC 9051 §7.5.1)."""
    return not isinstance(command, r.Fetch | r.Store | r.Search) or command.is_uid
