"""GETQUOTAROOT and GETQUOTA (RFC 9208)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.request import Command, Readers


@dataclass(frozen=True, slots=True)
class GetQuotaRoot(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class GetQuota(Command):
    root: str


READERS: Readers = {
    "GETQUOTAROOT": lambda reader: GetQuotaRoot(reader.mailbox()),
    "GETQUOTA": lambda reader: GetQuota(reader.text()),
}
