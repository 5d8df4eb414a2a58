"""The table of commands: what the parser reads the server does, and CAPABILITY says so."""

from __future__ import annotations

import sys
from pathlib import Path

from app.servers.imap.registry import CAPABILITIES, HANDLERS
from app.wire.imap import requests
from app.wire.imap.request import BareCommand, Command
from app.wire.imap.request_parser import READERS
from app.wire.imap.requests.general import Logout, StartTlsCommand

IN_THE_CONVERSATION = {Logout, StartTlsCommand}


def command_types() -> set[type[Command]]:
    """The types of commands that the modules in `requests` define."""
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{requests.__name__}.")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return {type_ for type_ in found if issubclass(type_, Command)} - {Command, BareCommand}


def test_every_command_that_is_read_is_done() -> None:
    assert command_types() == HANDLERS.keys() | IN_THE_CONVERSATION
    assert not HANDLERS.keys() & IN_THE_CONVERSATION


def test_every_command_without_arguments_is_read_by_its_name() -> None:
    bare = {type(reader) for reader in READERS.values() if isinstance(reader, BareCommand)}

    assert bare == {type_ for type_ in command_types() if issubclass(type_, BareCommand)}


def test_no_expunge_is_sent_while_a_command_uses_sequence_numbers() -> None:
    numbered = {handler.command.__name__ for handler in HANDLERS.values() if handler.may_expunge.__name__ != "always"}

    assert numbered == {"Fetch", "Store", "Search", "Sort", "ThreadMessages"}


def test_no_capability_is_declared_twice() -> None:
    words = [word for word in CAPABILITIES if isinstance(word, str)]

    assert len(words) == len(set(words))


def test_every_capability_is_documented() -> None:
    page = (Path(__file__).parents[4] / "docs" / "imap.md").read_text(encoding="utf-8")
    words = {word for word in CAPABILITIES if isinstance(word, str)}

    assert {word for word in words if f"`{word}`" not in page} == set()
