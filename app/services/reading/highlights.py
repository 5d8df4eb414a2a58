"""Highlights: the terms of a search in the messages that matched."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.errors import TooComplex
from app.mail import filter as f
from app.mail.highlighting import TextPiece, snippets_of, terms_of
from app.mail.storable import json_bytes
from app.mail.types import AccountId, MessageId
from app.mailstore.reading.lists import Listed
from app.mailstore.texts import TextIndex
from app.parsing.jobs import IN_THREADS, Parsers

_ADDRESSES = ("from", "to", "cc")


@dataclass(frozen=True, slots=True)
class Highlight:
    """A field of a message, and its snippet around the terms."""

    field: str
    pieces: Sequence[TextPiece]


class Highlights:
    """Makes highlights from the summaries and from the text that the full-text index stores for display."""

    def __init__(self, text_index: TextIndex, parsers: Parsers = IN_THREADS) -> None:
        self._text_index = text_index
        self._parsers = parsers

    async def added(
        self, items: Sequence[bytes], account_id: AccountId, listed_messages: Sequence[Listed], tree: f.Filter
    ) -> list[bytes]:
        """Add `highlights` to the JSON objects of the listed messages."""
        highlights = await self.of(account_id, listed_messages, tree)
        return [
            _with_member(item, b'"highlights":' + json_bytes(highlights[listed.anchor.id]))
            for item, listed in zip(items, listed_messages, strict=True)
        ]

    async def of(
        self, account_id: AccountId, found: Sequence[Listed], tree: f.Filter
    ) -> Mapping[str, Sequence[Highlight]]:
        """Return message id → highlights. For a message outside the full-text index, only its preview is searched."""
        terms = terms_of(tree)
        ids = [message.anchor.id for message in found]
        shown = await self._text_index.shown(account_id, ids) if "body" in terms else {}
        texts = {
            message.anchor.id: _texts(message, shown.get(MessageId(message.anchor.id)), terms) for message in found
        }
        size_bytes = sum(len(text) for fields in texts.values() for text in fields.values())
        try:
            snippets = await self._parsers.run(account_id, size_bytes, snippets_of, texts, terms)
        except TooComplex:
            snippets = {}
        return {id_: [Highlight(*item) for item in snippets.get(id_, {}).items()] for id_ in texts}


def _texts(listed: Listed, shown: str | None, fields: Collection[str]) -> dict[str, str]:
    """Return the texts of these fields of a message."""
    summary: dict[str, Any] = orjson.loads(listed.summary)
    texts = {
        name: ", ".join(f"{item['name']} <{item['address']}>".strip() for item in summary[name]) for name in _ADDRESSES
    }
    texts = {"subject": summary["subject"], **texts, "body": summary["preview"] or "" if shown is None else shown}
    return {name: text for name, text in texts.items() if name in fields}


def _with_member(item: bytes, member: bytes) -> bytes:
    """Return a JSON object with one member added."""
    return b"{" + member + b"}" if item == b"{}" else item[:-1] + b"," + member + b"}"
