"""The table of commands, collected from the modules of `commands`, and their capabilities."""

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
    """Return the handlers of all modules in `commands`. Raises ImportError if two handle the same command."""
    handlers_by_command: dict[type[Command], Handler[Any]] = {}
    for module in iter_modules(commands.__path__, f"{commands.__name__}."):
        handlers: Handlers = import_module(module.name).HANDLERS
        for handler in handlers:
            if handler.command in handlers_by_command:
                raise ImportError(
                    f"{module.name} handles {handler.command.__name__}, which another module also handles"
                )
            handlers_by_command[handler.command] = handler
    return handlers_by_command


HANDLERS = _collect()
CAPABILITIES: tuple[Capability, ...] = tuple(word for handler in HANDLERS.values() for word in handler.capabilities)
