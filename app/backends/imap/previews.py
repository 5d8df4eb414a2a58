"""The beginning of messages' texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.backends.imap.session import Session
from app.mail.types import BodyPart
from app.mime.body import decode_body, part_at, sections_to_fetch
from app.mime.text import preview_of, text_of_html
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

PREVIEW_BYTES = 4096


async def previews_of(session: Session, name: str, uids: Sequence[int]) -> dict[int, str]:
    """UID → preview: PREVIEW (RFC 8970), else the start of the first text part.

    A server that offers PREVIEW may have none (NIL, RFC 8970 §3.1): Cyrus has none unless something else makes them.
    """
    previews: dict[int, str] = {}
    if session.has("PREVIEW"):
        found = await session.fetch(name, SequenceSet.of(uids), ("UID", "PREVIEW"))
        previews = {uid: preview_of(message.preview) for uid, message in found.items() if message.preview is not None}
        uids = [uid for uid in found if uid not in previews]
    if uids:
        previews |= await _previews_by_text(session, name, uids)
    return previews


async def _previews_by_text(session: Session, name: str, uids: Sequence[int]) -> dict[int, str]:
    found = await session.fetch(name, SequenceSet.of(uids), ("UID", "BODYSTRUCTURE"), is_tolerant=True)
    structures = {uid: message.structure for uid, message in found.items() if message.structure is not None}
    previews = dict.fromkeys(structures, "")
    for section, with_it in _by_first_text(structures).items():
        start = BodySection(section, partial=(0, PREVIEW_BYTES))
        for uid, message in (await session.fetch(name, SequenceSet.of(with_it), ("UID", start))).items():
            if uid in structures:
                previews[uid] = _preview(message, part_at(structures[uid], section))
    return previews


def _by_first_text(structures: Mapping[int, BodyPart]) -> dict[str, list[int]]:
    """Section of the first text part → UIDs of the messages that have it there."""
    sections: dict[str, list[int]] = {}
    for uid, structure in structures.items():
        for section in sections_to_fetch(structure)[:1]:
            sections.setdefault(section, []).append(uid)
    return sections


def _preview(message: FetchedMessage, part: BodyPart | None) -> str:
    raw = next(iter(message.sections.values()), None)
    if part is None or not isinstance(raw, bytes):
        return ""
    text, _ = decode_body(raw, part)
    return preview_of(text_of_html(text) if part.media_type == "text/html" else text)
