"""ENVELOPE and overview of a header."""

from __future__ import annotations

from pathlib import Path

from app.mail.types import Address, Envelope, EnvelopeAddress
from app.mime.fields import split_fields
from app.mime.header import MAX_MESSAGE_IDS, envelope_of, message_ids, overview_of, overview_problems
from app.mime.structure import parse_structure

CORPUS = Path(__file__).parents[2] / "corpus" / "mime"


def test_sender_and_reply_to_default_to_from() -> None:
    envelope = envelope_of(split_fields(b"From: a@b.example\nReply-To:\n"))

    author = (EnvelopeAddress(None, None, "a", "b.example"),)
    assert (envelope.from_, envelope.sender, envelope.reply_to) == (author, author, author)


def test_a_name_in_raw_iso_2022_jp_hides_no_address() -> None:
    fields = split_fields(b"From: \x1b$BF|K\\8l\x1b(B <a@x.org>, \x1b$B%F%9%H\x1b(B <b@x.org>\n")

    assert overview_of(envelope_of(fields), None).from_ == (Address("日本語", "a@x.org"), Address("テスト", "b@x.org"))


def test_an_envelope_of_nothing_is_nil() -> None:
    assert envelope_of([]) == Envelope()


def test_recipients_of_repeated_fields_add_up_and_of_other_fields_the_first_counts() -> None:
    envelope = envelope_of(
        split_fields(
            b"From: ann@b.example\nFrom: eve@d.example\nTo: a@b.example\nTo: c@d.example\n"
            b"Subject: one\nSubject: two\nMessage-ID: <1@b>\nMessage-ID: <2@b>\n"
        )
    )

    assert [address.mailbox for address in envelope.from_] == ["ann"]
    assert [address.mailbox for address in envelope.to] == ["a", "c"]
    assert (envelope.subject, envelope.message_id) == ("one", "<1@b>")


def test_an_author_field_without_an_address_leaves_the_place_to_the_next() -> None:
    assert envelope_of(split_fields(b"From: \nFrom: ann@b.example\n")).from_[0].mailbox == "ann"


def test_a_byte_order_mark_before_the_header_hides_no_field() -> None:
    assert split_fields(b"\xef\xbb\xbfFrom: a@b.example\n") == [("from", b" a@b.example")]


def test_an_envelope_stays_undecoded_and_an_overview_does_not() -> None:
    envelope = envelope_of(split_fields(b"Subject: =?utf-8?q?=C3=BC?=\nFrom: =?utf-8?q?=C3=BC?= <a@b.example>\n"))

    overview = overview_of(envelope, None)

    assert envelope.subject == "=?utf-8?q?=C3=BC?="
    assert (overview.subject, overview.from_) == ("ü", (Address("ü", "a@b.example"),))


def test_references_come_once_each_in_order() -> None:
    assert message_ids("<a@b> junk <c@d>\t<a@b><e@f>") == ("<a@b>", "<c@d>", "<e@f>")
    assert message_ids(None) == ()


def test_of_many_references_the_first_and_the_last_are_kept() -> None:
    ids = message_ids(" ".join(f"<{index}@x>" for index in range(100_000)))

    assert len(ids) == MAX_MESSAGE_IDS
    assert (ids[0], ids[-1]) == ("<0@x>", "<99999@x>")


def test_a_message_id_without_brackets_is_kept_as_it_is() -> None:
    assert overview_of(Envelope(message_id="abc"), None).message_id_header == "abc"
    assert overview_of(Envelope(message_id=" "), None).message_id_header is None


def test_direction_controls_in_the_sender_are_flagged() -> None:
    overview = overview_of(
        Envelope(from_=(EnvelopeAddress("=?utf-8?q?=E2=80=AEtsac?=", None, "a", "b.example"),)), None
    )

    assert overview_problems(overview)
    assert not overview_problems(overview_of(Envelope(from_=(EnvelopeAddress("cast", None, "a", "b.example"),)), None))


def test_a_header_of_which_nothing_can_be_read_says_so() -> None:
    assert "no readable sender" in overview_problems(parse_structure(b"\x00\xff no field at all\r\n").overview)[0]
    assert not overview_problems(overview_of(Envelope(subject="Only this"), None))


def test_raw_latin_1_in_a_header_is_read() -> None:
    overview = parse_structure((CORPUS / "latin1-headers.eml").read_bytes()).overview

    assert (overview.subject, overview.from_[0].name) == ("Información de interés", "José")


def test_gb2312_is_read_as_gb18030() -> None:
    overview = parse_structure((CORPUS / "outlook-related.eml").read_bytes()).overview

    assert overview.subject == "报价㐀单"


def test_a_character_split_over_two_encoded_words_survives() -> None:
    assert parse_structure((CORPUS / "split-encoded-word.eml").read_bytes()).overview.subject == "会議の議事録について"
