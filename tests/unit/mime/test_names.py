"""Names of attachments."""

from __future__ import annotations

import unicodedata

import pytest
from app.mail.types import BodyPart, Envelope
from app.mime.names import (
    MAX_NAME_BYTES,
    attachment_name,
    content_id_of,
    download_name,
    media_type_of,
    safe_name,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\temp\\a.txt", "a.txt"),
        ("C:evil.exe", "C_evil.exe"),
        ("a\r\nb: c\x00.txt", "ab_ c.txt"),
        ("fdp\u202eexe.txt", "fdpexe.txt"),
        ("..", None),
        ("/", None),
        ("", None),
        ("...hidden", "hidden"),
        ("trailing. ", "trailing"),
        ("NUL.txt", "_NUL.txt"),
        ("con", "_con"),
        ('a"b<c>|?*.txt', "a_b_c____.txt"),
        ("e\u0301te\u0301.pdf", "été.pdf"),
        ("half\ud83d.txt", "half.txt"),
    ],
)
def test_a_name_holds_no_path_no_control_no_direction_mark(name: str, safe: str | None) -> None:
    assert safe_name(name) == safe


def test_a_long_name_is_cut_before_its_extension() -> None:
    name = safe_name("ü" * 1_000 + ".pdf")

    assert name is not None
    assert name.endswith("ü.pdf")
    assert len(name.encode()) <= MAX_NAME_BYTES


def test_the_disposition_names_before_the_type() -> None:
    part = BodyPart("2", "a/b", params=(("name", "b.txt"),), disposition_params=(("filename", "a.txt"),))

    assert attachment_name(part) == "a.txt"
    assert attachment_name(BodyPart("2", "a/b", params=(("name", "b.txt"),))) == "b.txt"
    assert attachment_name(BodyPart("2", "a/b")) is None


def test_an_attached_message_is_called_by_its_subject() -> None:
    part = BodyPart("2", "message/rfc822", envelope=Envelope(subject="=?utf-8?q?50/50_=C3=BC?="))

    assert attachment_name(part) == "50-50 ü.eml"


def test_what_has_no_name_is_saved_by_section_and_type() -> None:
    assert download_name(BodyPart("1.3", "text/calendar")) == "part-1-3.ics"
    assert download_name(BodyPart("", "a/b")) == "part-0.bin"


@given(st.text(max_size=300))
def test_any_name_is_safe(name: str) -> None:
    safe = safe_name(name)

    if safe is not None:
        assert not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in safe)
        assert not set(safe) & set('/\\:"')
        assert len(safe.encode()) <= MAX_NAME_BYTES


@pytest.mark.parametrize(
    ("content_id", "expected"),
    [("<a@b>", "a@b"), ("a@b", "a@b"), ("<caf\udce9\x00>", "café"), ("<>", None), (None, None)],
)
def test_a_content_id_is_clean_text_without_brackets(content_id: str | None, expected: str | None) -> None:
    assert content_id_of(BodyPart("1", "image/png", content_id=content_id)) == expected


@pytest.mark.parametrize(
    "media_type", ["image", "image/\udce9", "a/b\r\nX: y", "a/b; c=d", "/", "a/b/c", "a/" + "b" * 200]
)
def test_a_type_of_another_shape_is_opaque(media_type: str) -> None:
    assert media_type_of(BodyPart("1", media_type)) == "application/octet-stream"
    assert media_type_of(BodyPart("1", "image/png")) == "image/png"
