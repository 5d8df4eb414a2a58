"""The table of commands, collected from the modules of `commands`, and the capabilities that they add."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from app.servers.imap import commands
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.session import Capability
from app.wire.imap.request import Command


def _collect() -> Mapping[type[Command], Handler[Any]]:
    """The handlers of all modules in `commands`. Raises ImportError where two of them do the same command."""
    found: dict[type[Command], Handler[Any]] = {}
    for module in iter_modules(commands.__path__, f"{commands.__name__}."):
        handlers: Handlers = import_module(module.name).HANDLERS
        for handler in handlers:
            if handler.command in found:
                raise ImportError(f"{module.name} does {handler.command.__name__}, which another handler does too")
            found[handler.command] = handler
    return found


HANDLERS = _collect()
CAPABILITIES: tuple[Capability, ...] = tuple(word for handler in HANDLERS.values() for word in handler.capabilities)
