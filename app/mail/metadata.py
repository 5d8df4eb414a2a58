"""Metadata: texts by key that an app stores with an account or a submission. Postgate only returns them."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

KEYS_LIMIT = 16
KEY_LIMIT_CHARS = 64
VALUE_LIMIT_CHARS = 512

Metadata = Mapping[str, str]
MetadataChanges = Mapping[str, str | None]
"""Values to set; None removes the key (RFC 7396)."""


def with_metadata(settings: str, metadata: Metadata) -> str:
    """Return the account column `settings` with this metadata and its other content. "" is an empty column."""
    return orjson.dumps(orjson.loads(settings or "{}") | {"metadata": metadata}).decode()


def metadata_of(settings: str) -> dict[str, str]:
    """Return the metadata from the column `settings` of an account."""
    metadata: dict[str, str] = orjson.loads(settings).get("metadata", {}) if settings else {}
    return metadata


def metadata_member(key: str, value: str) -> str:
    """Return the JSON text of one key and value, to search for in a column."""
    return orjson.dumps({key: value}).decode()[1:-1]


def has_metadata(metadata: Metadata, wanted: Metadata) -> bool:
    """Whether the metadata has each wanted key with its wanted value."""
    return wanted.items() <= metadata.items()


def changed_metadata(metadata: Metadata, changes: MetadataChanges) -> dict[str, str]:
    merged = {**metadata, **changes}
    return {key: value for key, value in merged.items() if value is not None}
