"""Finds the messages of the index that an arrival may be, and those that it certainly is.

A message with equal INTERNALDATE, size, header and structure may be the same; a different message may be equal too.
Certain are messages with the same origin id (EMAILID of RFC 8474), or with the same bytes. If the bytes were never
read, an arrival is matched to a message that no other equals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from app.errors import MailboxNotFound, MessageNotFound, ServerProtocolError, ServerRefused
from app.mail.delta import Arrived, Location
from app.mail.identifiers import content_digest
from app.mail.types import MailboxId, Message, MessageId
from app.mailstore.reading.mirrored import Pair
from app.mailstore.rows import likeness as likeness_in
from app.mailstore.rows import likeness_of, structure_bytes
from app.mirror.account import Mirror

READ_BYTES = 1024 * 1024
"""How much of messages is in memory at a time, unless one is larger."""

Originals = dict[int, list[Message]]
"""UID of an arrival → messages of the index, oldest first: of a message and its copy, the message's id is reused."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """The messages of the index that resemble arrivals of one mailbox."""

    like: Originals
    is_certain: bool = False
    """They are certainly the same; no bytes need be compared."""


async def look_for(mirror: Mirror, arrived: Sequence[Arrived]) -> Likeness:
    """Compare arrivals of one mailbox with the index."""
    if arrived and arrived[0].origin_id is not None:
        return Likeness(await _by_origin_id(mirror, arrived), is_certain=True)
    like = await _alike(mirror, arrived)
    if not like:
        return Likeness({})
    proofs = await mirror.reader.mirrored.proofs(
        mirror.account_id, {message.id for messages in like.values() for message in messages}
    )
    structures = {arrival.uid: structure_bytes(arrival.structure) for arrival in arrived}
    return Likeness(
        {
            uid: [message for message in messages if proofs[message.id].structure == structures[uid]]
            for uid, messages in like.items()
        }
    )


async def certain(mirror: Mirror, mailbox_id: MailboxId, likeness: Likeness, uids: Collection[int]) -> Originals:
    """Return the messages that these arrivals certainly are."""
    like = {uid: messages for uid, messages in likeness.like.items() if uid in uids}
    if likeness.is_certain or not like:
        return like
    ids = {message.id for messages in like.values() for message in messages}
    digests = {
        id_: proof.digest for id_, proof in (await mirror.reader.mirrored.proofs(mirror.account_id, ids)).items()
    }
    to_read = [
        replace(messages[0], mailbox_id=mailbox_id, uid=uid)
        for uid, messages in like.items()
        if any(digests[message.id] is not None for message in messages)
    ]
    read = await read_digests(mirror, to_read)
    claims = Counter(message.id for messages in likeness.like.values() for message in messages)
    return {
        uid: [
            message
            for message in messages
            if _is_proven(digests[message.id], read.get(uid), len(messages) * claims[message.id])
        ]
        for uid, messages in like.items()
    }


def _is_proven(digest: str | None, read: str | None, pairs: int) -> bool:
    """Whether a message is an arrival. `pairs` is 1 if neither matches another."""
    return pairs == 1 if digest is None else digest == read


async def copies_of(mirror: Mirror, originals: Sequence[Message], since_ms: int) -> dict[Location, list[Location]]:
    """Return the location of each message → locations of its copies that arrived since then, oldest first."""
    pairs = await mirror.reader.mirrored.pairs(mirror.account_id, [item.id for item in originals])
    later = [pair.message.id for pair in pairs if pair.is_later]
    recent = await mirror.reader.mirrored.arrived_since(mirror.account_id, later, since_ms) if later else set()
    if not recent:
        return {}
    by_original: dict[MessageId, list[Pair]] = {}
    for pair in sorted(pairs, key=lambda item: item.message.id):
        by_original.setdefault(pair.of_id, []).append(pair)
    copies: dict[Location, list[Location]] = {}
    for original in originals:
        alike = [pair for pair in by_original.get(original.id, []) if pair.is_same or _is_alike(original, pair.message)]
        later_pairs = [pair for pair in alike if pair.is_later and pair.message.id in recent]
        same = [item.message for item in later_pairs if item.is_same] or await _proven(
            mirror, original, later_pairs, len(alike)
        )
        copies[place_of(original)] = [place_of(item) for item in same]
    return copies


def _is_alike(message: Message, other: Message) -> bool:
    return likeness_in(message.summary) == likeness_in(other.summary)


async def _proven(mirror: Mirror, original: Message, pairs: Sequence[Pair], alike: int) -> list[Message]:
    """Return the copies with the original's bytes; if those were never read, the only similar message."""
    copies = [pair.message for pair in pairs]
    if not copies:
        return []
    proofs = await mirror.reader.mirrored.proofs(mirror.account_id, [item.id for item in (original, *copies)])
    digest, structure = proofs[original.id].digest, proofs[original.id].structure
    if digest is None:
        return copies if alike == 1 and proofs[copies[0].id].structure == structure else []
    unread = [copy for copy in copies if proofs[copy.id].digest is None]
    digests = {copy.id: proofs[copy.id].digest for copy in copies}
    for item in unread:
        digests[item.id] = (await read_digests(mirror, [item])).get(item.uid)
    return [copy for copy in copies if digests[copy.id] == digest]


async def read_digests(mirror: Mirror, messages: Sequence[Message]) -> dict[int, str]:
    """Return digests by UID of messages of one mailbox, without those that cannot be read."""
    digests: dict[int, str] = {}
    for batch in _batches(messages):
        try:
            contents = await mirror.backend.contents(batch)
        except (ServerRefused, ServerProtocolError, MailboxNotFound, MessageNotFound):
            continue
        digests |= {uid: content_digest(content) for uid, content in contents.items()}
    return digests


def _batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    batch: list[Message] = []
    for message in messages:
        if batch and sum(other.size_bytes for other in batch) + message.size_bytes > READ_BYTES:
            yield batch
            batch = []
        batch.append(message)
    if batch:
        yield batch


async def _by_origin_id(mirror: Mirror, arrived: Sequence[Arrived]) -> Originals:
    ids = [arrival.origin_id for arrival in arrived if arrival.origin_id is not None]
    by_origin_id: dict[str, list[Message]] = {}
    for origin_id, message in await mirror.reader.mirrored.with_origin_ids(mirror.account_id, ids):
        by_origin_id.setdefault(origin_id, []).append(message)
    return _placed(
        {arrival.uid: _elsewhere(by_origin_id.get(arrival.origin_id or "", []), arrival) for arrival in arrived}
    )


async def _alike(mirror: Mirror, arrived: Sequence[Arrived]) -> Originals:
    """Return the messages with the same header, INTERNALDATE and size."""
    headers = {arrival.overview.message_id_header for arrival in arrived if arrival.overview.message_id_header}
    times = {arrival.received_at_ms for arrival in arrived if not arrival.overview.message_id_header}
    candidates = await mirror.reader.mirrored.with_headers(mirror.account_id, headers) if headers else []
    candidates += await mirror.reader.mirrored.without_header(mirror.account_id, times) if times else []
    times_and_sizes = {(arrival.received_at_ms, arrival.size_bytes) for arrival in arrived}
    by_likeness: dict[bytes, list[Message]] = {}
    for message in candidates:
        if (message.received_at_ms, message.size_bytes) in times_and_sizes:
            by_likeness.setdefault(likeness_in(message.summary), []).append(message)
    if not by_likeness:
        return {}
    return _placed({arrival.uid: _elsewhere(by_likeness.get(likeness_of(arrival), []), arrival) for arrival in arrived})


def _elsewhere(messages: Sequence[Message], arrival: Arrived) -> list[Message]:
    return [message for message in messages if (message.mailbox_id, message.uid) != (arrival.mailbox_id, arrival.uid)]


def _placed(originals: Originals) -> Originals:
    """Remove arrivals without a match, and sort the others by id, which is by time."""
    return {uid: sorted(like, key=lambda item: item.id) for uid, like in originals.items() if like}


def place_of(message: Message) -> Location:
    """Return the location of a message in the index."""
    return Location(message.mailbox_id, message.uid)
