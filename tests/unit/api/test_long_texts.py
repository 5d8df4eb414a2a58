"""Large JSON bodies: the same value as orjson's, without parsing the long texts of attachments."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest
from app.api import long_texts
from app.api.long_texts import LONG_TEXT_BYTES, SCANNED_BYTES, parse_large
from app.api.schemas.submissions import SendRequest
from pydantic import ValidationError

LONG = "QUJD" * (LONG_TEXT_BYTES // 4)


def readable(value: Any) -> Any:
    """The value with its memoryviews as text."""
    if isinstance(value, dict):
        return {key: readable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [readable(item) for item in value]
    return bytes(value).decode() if isinstance(value, memoryview) else value


def message(*contents: Any, **fields: Any) -> dict[str, Any]:
    return {"subject": "x", "attachments": [{"content_base64": content} for content in contents], **fields}


VALUES = {
    "one": message(LONG),
    "several, short ones between": message(LONG, "QQ==", LONG + "QQ==", None, 7),
    "a text that looks like the field": message(LONG, text='"content_base64":"' + LONG + '"'),
    "a name that ends like the field": {"a": {'x"content_base64': LONG}, "attachments": [{"content_base64": LONG}]},
    "quotes in it": message('a"' * LONG_TEXT_BYTES, LONG),
    "a backslash at its end": message(LONG + "\\", LONG),
    "long text and html": message(LONG, text="a line\n" * 20_000, html='<a href="x">' * 20_000),
    "text that is not ASCII": message(text="w\u00f6rd \U0001f600 \u4f60 " * 20_000, html="\U0001f600" * 40_000),
    "backslashes": message(text="\\" * 100_000, html='\\"' * 50_000),
    "long text elsewhere": {"nested": {"text": "x" * 100_000}, "text": "y" * 100_000},
    "no object": [message(LONG)],
    "attachments that are none": {"attachments": {"content_base64": "x"}},
}


@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n", " :\t")])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_large_body_has_the_value_that_it_says(value: Any, separators: tuple[str, str]) -> None:
    for body in (json.dumps(value, separators=separators).encode(), orjson.dumps(value)):
        found = await parse_large(body)

        assert isinstance(value, list) or readable(found) == orjson.loads(body)


async def test_long_texts_are_parts_of_the_body_and_never_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def loads(text: bytes) -> Any:
        parsed.append(len(text))
        return json.loads(text)

    monkeypatch.setattr(long_texts, "loads", loads)
    body = bytearray(json.dumps(message(LONG * 10, LONG * 20)).encode())

    found = await parse_large(body)

    assert [one["content_base64"].obj is body for one in found["attachments"]] == [True, True]
    assert sum(parsed) < 1_000


@pytest.mark.parametrize(
    "cut", [b'{"attachments": [{"content_base64": "', b'{"content_base64": "' + LONG.encode() + b'" 7}']
)
async def test_what_is_no_json_is_refused(cut: bytes) -> None:
    with pytest.raises(json.JSONDecodeError):
        await parse_large(cut)


async def test_others_have_their_turn_while_a_body_is_looked_through() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await parse_large(json.dumps(message("A" * 8 * SCANNED_BYTES)).encode())
    task.cancel()

    assert turns >= 8


@pytest.mark.parametrize("text", ["w\u00f6rd " * 100_000, "\U0001f600" * 200_000, "\n" * 600_000])
@pytest.mark.parametrize("is_ascii", [True, False])
async def test_a_long_text_is_decoded_in_pieces(text: str, is_ascii: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[int] = []

    def loads(piece: bytes) -> Any:
        parsed.append(len(piece))
        return orjson.loads(piece)

    monkeypatch.setattr(long_texts, "loads", loads)

    found = await parse_large(json.dumps({"text": text, "html": text}, ensure_ascii=is_ascii).encode())

    assert found == {"text": text, "html": text}
    assert max(parsed) <= long_texts.DECODED_BYTES + 2


@pytest.mark.parametrize("text", ["\\ud83d", "\\x", "\x00", "a\\"])
async def test_a_long_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        await parse_large(('{"text": "' + "a" * 100_000 + text + '"}').encode())


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (5, "Input should be a valid string"),
        ("\N{EURO SIGN}" * 10_000_001, "String should have at most 10000000 characters"),
        ("\N{EURO SIGN}" * 600_000 + "\0", "Value error, Must not contain NUL or lone surrogates"),
    ],
)
def test_a_long_text_is_validated_as_any_text(given: object, error: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SendRequest.model_validate({"to": ["ann@example.org"], "text": given})

    assert [(found["loc"], found["msg"]) for found in refused.value.errors()] == [(("text",), error)]
