"""Reads the previews of messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from app.backends.imap.session import ClientSession
from app.mail.types import BodyPart
from app.mime.body import sections_to_fetch
from app.mime.enclosed import containers, opened
from app.mime.shown import preview_in
from app.mime.text import preview_of
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

PREVIEW_BYTES = 4096
WIDE_PREVIEW_BYTES = 64 * 1024
"""Bytes read of each text part if the first PREVIEW_BYTES contain no words."""
CONTAINER_BYTES = 32 * 1024
"""The largest winmail.dat or calendar that is read for a preview."""
PARTS_READ = 4
"""Text parts that are read of a message whose first part has no words."""


async def previews_of(session: ClientSession, name: str, uids: Sequence[int]) -> dict[int, str]:
    """UID → preview: PREVIEW (RFC 8970), else the start of the first text part.

    A server that offers PREVIEW may return NIL (RFC 8970 §3.1), as Cyrus does unless a service generates previews.
    """
    previews: dict[int, str] = {}
    if session.has("PREVIEW"):
        fetched = await session.fetch(name, SequenceSet.of(uids), ("UID", "PREVIEW"))
        previews = {uid: preview_of(message.preview) for uid, message in fetched.items() if message.preview is not None}
        uids = [uid for uid in fetched if not previews.get(uid)]
    if uids:
        previews |= await _previews_by_text(session, name, uids)
    return previews


async def _previews_by_text(session: ClientSession, name: str, uids: Sequence[int]) -> dict[int, str]:
    fetched = await session.fetch(name, SequenceSet.of(uids), ("UID", "BODYSTRUCTURE"))
    structures = {uid: message.structure for uid, message in fetched.items() if message.structure is not None}
    previews = dict.fromkeys(structures, "")
    for window, wanted in _STEPS:
        blank = {uid: structure for uid, structure in structures.items() if not previews[uid]}
        for sections, uids_of_sections in _by_sections(blank, wanted).items():
            items: list[str | BodySection] = ["UID"]
            items += [BodySection(section, partial=(0, window)) for section in sections]
            for uid, message in (await session.fetch(name, SequenceSet.of(uids_of_sections), items)).items():
                if uid in structures:
                    previews[uid] = _preview(message, structures[uid])
    return previews


def _first_text(structure: BodyPart) -> tuple[str, ...]:
    return sections_to_fetch(structure)[:1]


def _first_texts(structure: BodyPart) -> tuple[str, ...]:
    return sections_to_fetch(structure)[:PARTS_READ]


def _small_containers(structure: BodyPart) -> tuple[str, ...]:
    return tuple(part.section for part in containers(structure) if part.size_bytes <= CONTAINER_BYTES)


_STEPS = (
    (PREVIEW_BYTES, _first_text),
    (WIDE_PREVIEW_BYTES, _first_texts),
    (CONTAINER_BYTES, _small_containers),
)
"""Steps for messages without a preview so far: how many bytes to read of which sections."""


def _by_sections(
    structures: Mapping[int, BodyPart], wanted: Callable[[BodyPart], tuple[str, ...]]
) -> dict[tuple[str, ...], list[int]]:
    """Wanted sections → UIDs of the messages that have them."""
    by_sections: dict[tuple[str, ...], list[int]] = {}
    for uid, structure in structures.items():
        sections = wanted(structure)
        if sections:
            by_sections.setdefault(sections, []).append(uid)
    return by_sections


def _preview(message: FetchedMessage, structure: BodyPart) -> str:
    raw = {section.partition("<")[0]: value for section, value in message.sections.items() if isinstance(value, bytes)}
    inside = opened(structure, raw)
    return preview_in(
        inside.structure,
        lambda part, limit: inside.contents.get(part.section, raw.get(part.section, b""))[:limit],
    )
