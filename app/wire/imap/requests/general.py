"""CAPABILITY, NOOP, CHECK, LOGOUT, STARTTLS, NAMESPACE and ID (RFC 9051 §6.1, §6.2.1, §6.3.10; RFC 2971)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import BareCommand, Command, Readers

MAX_ID_FIELDS = 30


@dataclass(frozen=True, slots=True)
class GetCapabilities(BareCommand):
    """CAPABILITY."""


@dataclass(frozen=True, slots=True)
class Noop(BareCommand):
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Check(BareCommand):
    """CHECK (RFC 3501 §6.4.1)."""


@dataclass(frozen=True, slots=True)
class Logout(BareCommand):
    """LOGOUT."""


@dataclass(frozen=True, slots=True)
class StartTlsCommand(BareCommand):
    """STARTTLS."""


@dataclass(frozen=True, slots=True)
class GetNamespace(BareCommand):
    """NAMESPACE (RFC 2342)."""


@dataclass(frozen=True, slots=True)
class Identify(Command):
    """ID (RFC 2971). Names are in lower case."""

    fields: tuple[tuple[str, str | None], ...]


def _identify(reader: ArgumentReader) -> Identify:
    if reader.skip_word("NIL"):
        return Identify(())
    texts = reader.items_or_empty(reader.nstring)
    names, values = texts[::2], texts[1::2]
    if len(names) != len(values) or len(names) > MAX_ID_FIELDS:
        reader.fail("ID takes at most 30 names, each with a value")
    return Identify(tuple(((name or "").lower(), value) for name, value in zip(names, values, strict=True)))


READERS: Readers = {
    "CAPABILITY": GetCapabilities(),
    "NOOP": Noop(),
    "CHECK": Check(),
    "LOGOUT": Logout(),
    "STARTTLS": StartTlsCommand(),
    "NAMESPACE": GetNamespace(),
    "ID": _identify,
}
