"""What senders are told, as bytes."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes
from email.message import Message

import pytest
from app.mime.notice import MAX_RETURNED_HEADER_BYTES, Action, Notice, RecipientOutcome, write_notice
from hypothesis import given
from hypothesis import strategies as st

JOE = RecipientOutcome("joe@there.example", Action.FAILED, "5.1.1", "No such user")
NOTICE = Notice(
    hostname="mail.demo.test",
    recipient="ann@demo.test",
    envelope_id="sub_1",
    message_id="<n1@mail.demo.test>",
    date_ms=1_780_000_000_000,
    arrived_ms=1_779_990_000_000,
    outcomes=(JOE,),
    header=b"From: ann@demo.test\r\nMessage-ID: <1@laptop.example>\r\nSubject: Hi",
)


def parts_of(content: bytes) -> list[Message]:
    parts = message_from_bytes(content).get_payload()
    assert isinstance(parts, list)
    return [one for one in parts if isinstance(one, Message)]


def blocks_of(content: bytes) -> list[Message]:
    blocks = parts_of(content)[1].get_payload()
    assert isinstance(blocks, list)
    return [one for one in blocks if isinstance(one, Message)]


def test_a_notice_is_a_report_of_three_parts() -> None:
    content = write_notice(NOTICE)

    whole = message_from_bytes(content)
    assert (whole.get_content_type(), whole.get_param("report-type")) == ("multipart/report", "delivery-status")
    assert [one.get_content_type() for one in parts_of(content)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_the_same_notice_is_the_same_bytes() -> None:
    assert write_notice(NOTICE) == write_notice(NOTICE)


def test_letters_beyond_ascii_in_an_address_are_escaped_by_their_type() -> None:
    outcome = replace(JOE, address="jürgen+x@dömain.example")

    (_, block) = blocks_of(write_notice(replace(NOTICE, outcomes=(outcome,))))

    assert block["Final-Recipient"] == r"utf-8; j\x{FC}rgen\x{2B}x@d\x{F6}main.example"


@pytest.mark.parametrize("response", ["a\r\nAction: delivered", "a\n\nFinal-Recipient: x", "\0\x7f\u2028b", "x" * 9000])
def test_a_response_cannot_write_fields_of_its_own(response: str) -> None:
    outcome = replace(JOE, response=response)

    (_, block) = blocks_of(write_notice(replace(NOTICE, outcomes=(outcome,))))

    assert block.get_all("Action") == ["failed"]
    assert len(block["Diagnostic-Code"]) <= 600


def test_a_long_header_is_returned_up_to_the_end_of_a_line() -> None:
    header = b"".join(b"X-%d: y\r\n" % number for number in range(20_000))

    returned = parts_of(write_notice(replace(NOTICE, header=header)))[2]

    text = str(returned.get_payload())
    assert len(text) <= MAX_RETURNED_HEADER_BYTES
    assert text.endswith(": y\r\n")


def test_a_message_id_that_is_none_is_not_answered_to() -> None:
    whole = message_from_bytes(write_notice(replace(NOTICE, header=b"Message-ID: <a b>\r\n")))

    assert whole["In-Reply-To"] is None


@given(st.text(), st.text(max_size=50), st.binary())
def test_whatever_others_wrote_a_notice_can_be_read(response: str, address: str, header: bytes) -> None:
    outcome = RecipientOutcome(address, Action.DELAYED, "4.0.0", response)

    blocks = blocks_of(write_notice(replace(NOTICE, outcomes=(outcome,), header=header, retried_until_ms=0)))

    assert len(blocks) == 2
    assert blocks[1].get_all("Action") == ["delayed"]
