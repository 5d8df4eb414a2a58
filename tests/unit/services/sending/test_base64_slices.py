"""Base64 in slices gives what it gives in one."""

from __future__ import annotations

import base64
import random

import pytest
from app.services.sending import base64_slices
from app.services.sending.base64_slices import decoded, size_of

CONTENTS = [random.Random(size).randbytes(size) for size in (0, 1, 2, 3, 100, 101, 1_000, 4_099)]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base64_slices, "SLICE_BYTES", 61)


@pytest.mark.parametrize("content", CONTENTS, ids=len)
async def test_a_content_is_decoded_whole(content: bytes) -> None:
    text = base64.b64encode(content).decode()
    escaped = memoryview(text.replace("/", "\\/").encode())

    found, from_view = await decoded(text), await decoded(escaped)

    assert b"".join(found) == b"".join(from_view) == content
    assert size_of(found) == len(content)


async def test_each_slice_is_of_bounded_size() -> None:
    assert max(map(len, await decoded("QUJD" * 1_000))) <= 61


@pytest.mark.parametrize(
    "text",
    [
        "QQ==QUJD" * 50,
        "QUJD" * 50 + "Q",
        "QUJ\\" * 50,
        "QUJD\n" * 50,
        "é" * 100,
        "QQ==" + "QUJD" * 50,
    ],
)
async def test_what_is_no_base64_is_refused(text: str) -> None:
    for form in (text, memoryview(text.encode())):
        with pytest.raises(ValueError, match=r"base64|padding|ascii|non-alphabet|Base64|number of data"):
            await decoded(form)
