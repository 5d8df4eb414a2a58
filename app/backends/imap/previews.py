"""The beginning of messages' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.backends.imap.session import Session
from app.mail.types import BodyPart
from app.mime.body import sections_to_fetch
from app.mime.shown import preview_in
from app.mime.text import preview_of
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

PREVIEW_BYTES = 4096
WIDE_PREVIEW_BYTES = 64 * 1024
"""How much is read of each text part of a message whose beginning shows no words."""
PARTS_READ = 4
"""Text parts of such a message that are read."""


async def previews_of(session: Session, name: str, uids: Sequence[int]) -> dict[int, str]:
    """UID → preview: PREVIEW (RFC 8970), else the start of the first text part.

    A server that offers PREVIEW may have none (NIL, RFC 8970 §3.1): Cyrus has none unless something else makes them.
    """
    previews: dict[int, str] = {}
    if session.has("PREVIEW"):
        found = await session.fetch(name, SequenceSet.of(uids), ("UID", "PREVIEW"))
        previews = {uid: preview_of(message.preview) for uid, message in found.items() if message.preview is not None}
        uids = [uid for uid in found if not previews.get(uid)]
    if uids:
        previews |= await _previews_by_text(session, name, uids)
    return previews


async def _previews_by_text(session: Session, name: str, uids: Sequence[int]) -> dict[int, str]:
    found = await session.fetch(name, SequenceSet.of(uids), ("UID", "BODYSTRUCTURE"))
    structures = {uid: message.structure for uid, message in found.items() if message.structure is not None}
    previews = dict.fromkeys(structures, "")
    for window, parts in ((PREVIEW_BYTES, 1), (WIDE_PREVIEW_BYTES, PARTS_READ)):
        blank = {uid: structure for uid, structure in structures.items() if not previews[uid]}
        for sections, with_them in _by_sections(blank, parts).items():
            items: list[str | BodySection] = ["UID"]
            items += [BodySection(section, partial=(0, window)) for section in sections]
            for uid, message in (await session.fetch(name, SequenceSet.of(with_them), items)).items():
                if uid in structures:
                    previews[uid] = _preview(message, structures[uid])
    return previews


def _by_sections(structures: Mapping[int, BodyPart], count: int) -> dict[tuple[str, ...], list[int]]:
    """Sections of the first text parts → UIDs of the messages that have them there."""
    found: dict[tuple[str, ...], list[int]] = {}
    for uid, structure in structures.items():
        sections = sections_to_fetch(structure)[:count]
        if sections:
            found.setdefault(sections, []).append(uid)
    return found


def _preview(message: FetchedMessage, structure: BodyPart) -> str:
    raw = {section.partition("<")[0]: value for section, value in message.sections.items() if isinstance(value, bytes)}
    return preview_in(structure, lambda part, limit: raw.get(part.section, b"")[:limit])
