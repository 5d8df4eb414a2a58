"""No parser takes more than linear time (checks 12 and 21): what is quadratic would take minutes here."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from app.mime.addresses import parse_addresses
from app.mime.calendar_lines import usual_line
from app.mime.cms import signed_content
from app.mime.css import safe_style
from app.mime.dates import parse_date
from app.mime.header import message_ids
from app.mime.lines import normalise_newlines
from app.mime.names import safe_name
from app.mime.params import decoded_param, parse_value
from app.mime.reply import forward_subject, reply_subject
from app.mime.structure import parse_structure
from app.mime.text import preview_of, text_of_html, unflowed
from app.mime.transfer import decode_transfer
from app.mime.words import decode_words

SIZE = 100_000
MAX_SECONDS = 2.0
UNITS = (
    *(
        '"',
        "(",
        "<",
        "=?",
        " ",
        "\\",
        ";",
        ",",
        ":",
        "@",
        "[",
        "&",
        "%",
        "'",
        "<>",
        "=",
        "\n",
        "\t",
        "=?a?q?",
        "a@",
        "<a@b>,",
    ),
    *(
        '"\\',
        "a:",
        "(a",
        "\\(",
        '"" ',
        "=?a?b?=",
        "a (",
        ";a=",
        ";a*0=",
        '; a="\\',
        "= ",
        "> ",
        "-- \n",
        " \n",
        "begin 644 a\n",
    ),
    *("On a wrote:\n", "a.", "@a,", "<!--", "<a ", "=41", "=\n", "\r", "Re: "),
)
PARSERS: dict[str, Callable[[str], object]] = {
    "addresses": parse_addresses,
    "encoded-words": decode_words,
    "parameters": parse_value,
    "parameter": lambda text: decoded_param((("filename", text), ("filename*", text)), "filename"),
    "date": parse_date,
    "message ids": message_ids,
    "line of a calendar": lambda text: [usual_line(f"{name};X={text}") for name in ("ATTENDEE", "DTSTART;TZID", "X")],
    "signed content": lambda text: signed_content(text.encode()),
    "message without its boundary": lambda text: parse_structure(f"Content-Type: multipart/x\n\n{text}".encode()),
    "name": safe_name,
    "preview": preview_of,
    "flowed": unflowed,
    "html": text_of_html,
    "style": safe_style,
    "subject": lambda text: (reply_subject(text), forward_subject(text)),
    "newlines": lambda text: normalise_newlines(text.encode()),
    "base64": lambda text: decode_transfer(text.encode(), "base64"),
    "quoted-printable": lambda text: decode_transfer(text.encode(), "quoted-printable"),
    "uuencode": lambda text: decode_transfer(text.encode(), "uuencode"),
    "message": lambda text: parse_structure(text.encode()),
    "content-type": lambda text: parse_structure(b"Content-Type: a/b; x=" + text.encode() + b"\n\n"),
    "multipart": lambda text: parse_structure(b"Content-Type: multipart/mixed; boundary=x\n\n--x\n" + text.encode()),
}


def seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


@pytest.mark.slow
@pytest.mark.parametrize("parser", PARSERS)
def test_repeated_marks_take_linear_time(parser: str) -> None:
    slow = {
        unit: taken
        for unit in UNITS
        if (taken := seconds(lambda unit=unit: PARSERS[parser](unit * (SIZE // len(unit))))) > MAX_SECONDS  # type: ignore[misc]
    }

    assert not slow


@pytest.mark.parametrize(
    "data",
    [
        b"--x\n\na\n" * 200_000,
        b"--x\nA: b\n" * 200_000,
        b"--\n" * 1_000_000,
        b"--x\nContent-Type: multipart/mixed; boundary=x\n\n" * 50_000,
        b"--x\nContent-Type: message/rfc822\n\nTo: a@b, (\n\n\n" * 50_000,
        b"--x" + b" " * 1_000_000,
        b"\n" * 2_000_000,
        b"--x\n" + b"Content-Type: message/rfc822\n\n" * 99 + b"a\n" * 2_000_000,
        b"--x\nContent-Type: text/plain" + b"; a*0=b" * 500_000,
    ],
    ids=[
        "parts",
        "no blank lines",
        "dashes",
        "same boundary",
        "messages",
        "spaces",
        "lines",
        "nested messages",
        "pieces",
    ],
)
def test_bombs_take_linear_time(data: bytes) -> None:
    message = b"Content-Type: multipart/mixed; boundary=x\n\n" + data

    assert seconds(lambda: parse_structure(message)) < 3
