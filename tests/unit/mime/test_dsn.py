"""Reports that come back, as servers write them and as nobody should."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from app.mime.dsn import Report, Reported, parts_to_read, read_report
from app.mime.notice import write_notice
from app.mime.structure import parse_structure
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import at_most_cpu_seconds
from tests.unit.mime.test_notice import JOE, NOTICE

CORPUS = Path(__file__).parents[2] / "corpus" / "mime"
HEAD = (
    b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\n\r\nText\r\n"
    b"--b\r\nContent-Type: message/delivery-status\r\n"
)
PIECES = [b"Final-Recipient: ", b"Action: ", b"\r\n", b"\n ", b"rfc822;", b"\\x{"]
REPEATED = [b"\n", b"\r\n ", b"\n \t", b"A: b\n\n", b"Final-Recipient: a\nAction: b\n\n", b"\\x{"]


def report_in(content: bytes) -> Report | None:
    structure = parse_structure(content).structure
    return read_report(structure, contents_of(content))


def contents_of(content: bytes) -> Mapping[str, bytes]:
    parts = parts_to_read(parse_structure(content).structure)
    return {one.section: content[one.span[1] : one.span[2]] for one in parts if one.span is not None}


def of_status(status: bytes) -> Report | None:
    return report_in(HEAD + b"\r\n" + status + b"\r\n--b--\r\n")


def test_a_report_of_postfix_names_the_message_that_it_returns() -> None:
    report = report_in((CORPUS / "postfix-bounce.eml").read_bytes())

    assert report == Report(None, "<hello@example.com>", (Reported(("nobody@example.org",), "failed", "5.1.1"),))


def test_our_own_notices_are_read() -> None:
    assert report_in(write_notice(NOTICE)) == Report(
        "sub_1", "<1@laptop.example>", (Reported((JOE.address,), "failed", "5.1.1", "No such user"),)
    )


def test_other_mail_is_no_report() -> None:
    for path in CORPUS.glob("*.eml"):
        if path.name != "postfix-bounce.eml":
            assert report_in(path.read_bytes()) is None


def test_addresses_are_read_without_type_escapes_or_case() -> None:
    report = of_status(
        b"Reporting-MTA: dns; x\r\n\r\nOriginal-Recipient: rfc822;Joe@There.example\r\n"
        b"Final-Recipient: utf-8; <j\\x{FC}rgen@there.example>\r\nACTION: Failed (bad)\r\nStatus: 5.2.2 (full)\r\n"
    )

    assert report is not None
    assert report.recipients == (Reported(("jürgen@there.example", "joe@there.example"), "failed", "5.2.2"),)


def test_an_encoded_status_part_is_decoded() -> None:
    encoded = b"UmVwb3J0aW5nLU1UQTogeAoKRmluYWwtUmVjaXBpZW50OiByZmM4MjI7YUBiCkFjdGlvbjogZGVsaXZlcmVkCg=="
    report = report_in(HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded + b"\r\n--b--\r\n")

    assert report is not None
    assert report.recipients == (Reported(("a@b",), "delivered"),)


@pytest.mark.parametrize("wrong", [b"", b"Final-Recipient: x", b"Action: failed", b"\r\n\r\n\r\n", b"\xff" * 100])
def test_a_status_part_that_tells_of_nobody_is_no_report(wrong: bytes) -> None:
    assert of_status(wrong) is None


def test_what_cannot_be_looked_up_is_not_told() -> None:
    report = of_status(b"Original-Envelope-Id: a\x00\xffb\r\n\r\nFinal-Recipient: a@b\r\nAction: failed\r\n")

    assert report is not None
    assert (report.envelope_id, report.message_id) == ("a b", None)


@given(
    st.binary(), st.lists(st.sampled_from([b"Final-Recipient: ", b"Action: ", b"\r\n", b"\n ", b"rfc822;", b"\\x{"]))
)
def test_nothing_makes_the_reader_raise(raw: bytes, pieces: list[bytes]) -> None:
    for status in (raw, b"".join(pieces), b"".join(pieces) + raw):
        report = of_status(status)
        assert report is None or "\x00" not in (report.envelope_id or "")


@pytest.mark.parametrize(
    "piece", [b"\n", b"\r\n ", b"\n \t", b"A: b\n\n", b"Final-Recipient: a\nAction: b\n\n", b"\\x{"]
)
def test_a_large_status_part_is_read_in_little_time(piece: bytes) -> None:
    content = HEAD + b"\r\n" + piece * (1_000_000 // len(piece)) + b"\r\n--b--\r\n"
    structure, contents = parse_structure(content).structure, contents_of(content)

    with at_most_cpu_seconds(1):
        read_report(structure, contents)
