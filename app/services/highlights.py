"""Where the terms of a search stand in what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.mail import filter as f
from app.mail.highlighting import Piece, snippet_of, terms_of
from app.mail.types import AccountId, MessageId
from app.mailstore.reading.lists import Listed
from app.mailstore.texts import TextIndex

_ADDRESSES = ("from", "to", "cc")


@dataclass(frozen=True, slots=True)
class Highlight:
    """A field of a message, and the stretch of it where terms stand."""

    field: str
    pieces: Sequence[Piece]


class Highlights:
    """Makes them from the summaries, and from what the full-text index keeps to be shown."""

    def __init__(self, text_index: TextIndex) -> None:
        self._text_index = text_index

    async def added(
        self, items: Sequence[bytes], account_id: AccountId, found: Sequence[Listed], tree: f.Filter
    ) -> list[bytes]:
        """JSON objects of messages, one for each that was found, with `highlights` in them."""
        highlights = await self.of(account_id, found, tree)
        return [
            _with_member(item, b'"highlights":' + orjson.dumps(highlights[one.anchor.id]))
            for item, one in zip(items, found, strict=True)
        ]

    async def of(
        self, account_id: AccountId, found: Sequence[Listed], tree: f.Filter
    ) -> Mapping[str, Sequence[Highlight]]:
        """Message id → highlights. Of a message that is not in the index, its preview is all that is looked at."""
        terms = terms_of(tree)
        ids = [one.anchor.id for one in found]
        shown = await self._text_index.shown(account_id, ids) if "body" in terms else {}
        return await asyncio.to_thread(_highlights, found, terms, shown)


def _highlights(
    found: Sequence[Listed], terms: Mapping[str, set[str]], shown: Mapping[MessageId, str]
) -> dict[str, list[Highlight]]:
    return {
        one.anchor.id: [
            Highlight(field, pieces)
            for field, text in _texts(orjson.loads(one.summary), shown.get(MessageId(one.anchor.id)))
            if field in terms and (pieces := snippet_of(text, terms[field]))
        ]
        for one in found
    }


def _texts(summary: dict[str, Any], shown: str | None) -> list[tuple[str, str]]:
    """The fields of a message with their texts."""
    addresses = [
        (name, ", ".join(f"{one['name']} <{one['address']}>".strip() for one in summary[name])) for name in _ADDRESSES
    ]
    return [("subject", summary["subject"]), *addresses, ("body", summary["preview"] or "" if shown is None else shown)]


def _with_member(item: bytes, member: bytes) -> bytes:
    """A JSON object with one member more."""
    return b"{" + member + b"}" if item == b"{}" else item[:-1] + b"," + member + b"}"
