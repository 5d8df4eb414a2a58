"""Reads DSNs (RFC 3464) among new mail and applies them to submissions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from app.errors import NotFound, NotStorable, ServerProtocolError, ServerRefused
from app.mail.backend import ByteRange
from app.mail.delta import Arrived, Location
from app.mail.types import BodyPart, Message
from app.mime.dsn import MAX_PART_BYTES, parts_to_read, read_report
from app.mirror.account import Mirror
from app.services.sending.dsn import Reports
from app.telemetry import get_logger

log = get_logger(__name__)

WAITING_LIMIT = 1_000
"""Queued DSNs; further ones are not evaluated."""


class ReportReader:
    """Queues new DSNs and reads them."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._reports = Reports(mirror.index)
        self._waiting: dict[Location, BodyPart] = {}
        self._has_work = asyncio.Event()

    def want(self, arrived: Iterable[Arrived]) -> None:
        """Read new delivery reports. Those of an initial sync are old and are skipped."""
        for arrival in arrived:
            if arrival.structure is not None and arrival.is_announced and parts_to_read(arrival.structure):
                if len(self._waiting) < WAITING_LIMIT:
                    self._waiting[Location(arrival.mailbox_id, arrival.uid)] = arrival.structure
                self._has_work.set()

    async def run(self) -> None:
        """Read queued DSNs, forever. Raises what the backend raises when the connection is lost; they stay queued."""
        while True:
            while self._waiting:
                location, structure = next(iter(self._waiting.items()))
                await self._read(location, structure)
                self._waiting.pop(location, None)
            self._has_work.clear()
            await self._has_work.wait()

    async def _read(self, location: Location, structure: BodyPart) -> None:
        account_id = self._mirror.account_id
        try:
            message = await self._mirror.reader.messages.at(account_id, location)
            contents = {part.section: await self._content(message, part) for part in parts_to_read(structure)}
        except (NotFound, ServerRefused, ServerProtocolError) as error:
            log.warning("report_not_read", account_id=account_id, error=error.code)
            return
        report = read_report(structure, contents)
        if report is None:
            return
        try:
            await self._reports.take(account_id, report)
        except NotStorable:
            log.warning("report_refused", account_id=account_id, mailbox_id=location.mailbox_id, uid=location.uid)

    async def _content(self, message: Message, part: BodyPart) -> bytes:
        pieces = self._mirror.backend.read_part(message, part.section, ByteRange(0, MAX_PART_BYTES))
        return b"".join([piece async for piece in pieces])
