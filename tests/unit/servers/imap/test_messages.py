"""FETCH, STORE, SEARCH, COPY, MOVE, EXPUNGE and APPEND, as lines."""

from __future__ import annotations

import re

import pytest

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import MAX_MESSAGE_BYTES, USER, Talk

NESTED = b"""From: =?utf-8?q?Zo=C3=AB?= <zoe@example.test>
To: ann@example.test
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=
Date: Mon, 1 Jan 2024 23:30:00 -0500
Message-ID: <nested@example.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=outer

--outer
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe aus Berlin
--outer
Content-Type: message/rfc822

From: inner@example.test
Subject: Inside
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain

plain inside
--inner
Content-Type: text/html

<p>html inside</p>
--inner--
--outer
Content-Type: application/pdf; name=bill.pdf
Content-Disposition: attachment; filename=bill.pdf
Content-Transfer-Encoding: base64

aGVsbG8=
--outer--
""".replace(b"\n", b"\r\n")


async def with_mail(harness: Harness, *contents: bytes, command: str = "SELECT INBOX") -> Talk:
    """A session on INBOX with these messages in it."""
    account_id = (await harness.logins.verify(USER, "secret", address="127.0.0.1")).account_id
    inbox = await harness.mailbox(account_id)
    stored = [(await harness.store.keep(content), frozenset[str](), 1_704_103_200_000) for content in contents]
    await harness.store.add(account_id, inbox.id, stored)
    return await Talk.logged_in(harness, command)


async def fetched(talk: Talk, items: str, number: int = 1) -> bytes:
    """The one answer of a FETCH, without its head and end."""
    whole = await talk.feed(f"a FETCH {number} ({items})\r\n".encode())
    assert whole.endswith(b"a OK FETCH completed\r\n"), whole
    return whole.removeprefix(b"* %d FETCH (" % number).removesuffix(b")\r\na OK FETCH completed\r\n")


async def test_a_list_is_told_as_the_rfc_spells_it(harness: Harness) -> None:
    talk = await with_mail(harness, mail("Hello"))

    assert await fetched(talk, "UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE") == (
        b'UID 1 FLAGS (\\Recent) INTERNALDATE " 1-Jan-2024 10:00:00 +0000" RFC822.SIZE %d '
        b'ENVELOPE ("Mon, 1 Jan 2024 09:00:00 +0000" "Hello" (("Bob" NIL "bob" "example.test")) '
        b'(("Bob" NIL "bob" "example.test")) (("Bob" NIL "bob" "example.test")) ((NIL NIL "ann" "example.test")) '
        b'NIL NIL NIL "<Hello@example.test>") '
        b'BODYSTRUCTURE ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 8 1 NIL NIL NIL NIL)'
    ) % len(mail("Hello"))


@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("1", b"Gr=C3=BC=C3=9Fe aus Berlin"),
        ("1.MIME", b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"),
        ("2.HEADER.FIELDS (SUBJECT)", b"Subject: Inside\r\n\r\n"),
        ("2.1", b"plain inside"),
        ("2.2.MIME", b"Content-Type: text/html\r\n\r\n"),
        ("3", b"aGVsbG8="),
        ("HEADER.FIELDS (DATE MESSAGE-ID)", b"Date: Mon, 1 Jan 2024 23:30:00 -0500\r\n"
         b"Message-ID: <nested@example.test>\r\n\r\n"),
        ("HEADER.FIELDS.NOT (FROM TO SUBJECT DATE MESSAGE-ID CONTENT-TYPE)", b"MIME-Version: 1.0\r\n\r\n"),
        ("HEADER", NESTED.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"),
        ("TEXT", NESTED.partition(b"\r\n\r\n")[2]),
        ("", NESTED),
    ],
)  # fmt: skip
async def test_sections_are_cut_where_the_rfc_says(harness: Harness, section: str, content: bytes) -> None:
    talk = await with_mail(harness, NESTED)

    assert await fetched(talk, f"BODY.PEEK[{section}]") == b"BODY[%b] {%d}\r\n%b" % (
        section.encode(),
        len(content),
        content,
    )


async def test_a_section_that_is_not_there_is_nil(harness: Harness) -> None:
    talk = await with_mail(harness, NESTED)

    assert await fetched(talk, "BODY.PEEK[4] BODY.PEEK[1.HEADER] BODY.PEEK[3.1]") == (
        b"BODY[4] NIL BODY[1.HEADER] NIL BODY[3.1] NIL"
    )


@pytest.mark.parametrize(
    ("partial", "content"),
    [("<0.4>", b"From"), ("<6.8>", b"=?utf-8?"), ("<99999.10>", b""), ("<0.4294967295>", NESTED)],
)
async def test_a_partial_is_cut_to_what_there_is(harness: Harness, partial: str, content: bytes) -> None:
    talk = await with_mail(harness, NESTED)
    origin = partial.partition(".")[0]

    assert await fetched(talk, f"BODY.PEEK[]{partial}") == b"BODY[]%b> {%d}\r\n%b" % (
        origin.encode(), len(content), content,
    )  # fmt: skip


async def test_a_large_message_comes_in_pieces_and_whole(harness: Harness) -> None:
    large = mail("Large", "0123456789abcdef" * 40_000 + "\r\n")
    talk = await with_mail(harness, large)

    assert await fetched(talk, "BODY.PEEK[] UID") == b"BODY[] {%d}\r\n%b UID 1" % (len(large), large)
    assert await fetched(talk, "BODY.PEEK[]<300000.5>") == b"BODY[]<300000> {5}\r\n%b" % large[300_000:300_005]


async def test_a_header_of_megabytes_is_told_whole(harness: Harness) -> None:
    header = mail("Wide", X_Wide="x" * 200_000, X_Last="end").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    talk = await with_mail(harness, header + b"Body.\r\n")

    assert await fetched(talk, "RFC822.HEADER") == b"RFC822.HEADER {%d}\r\n%b" % (len(header), header)
    assert await fetched(talk, "BODY.PEEK[HEADER.FIELDS (X-LAST)]") == (
        b"BODY[HEADER.FIELDS (X-LAST)] {15}\r\nX-Last: end\r\n\r\n"
    )
    assert await fetched(talk, "BODY.PEEK[TEXT]") == b"BODY[TEXT] {7}\r\nBody.\r\n"


async def test_reading_a_body_marks_it_seen_and_peeking_does_not(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"))

    assert b"FLAGS" not in await fetched(talk, "BODY.PEEK[TEXT]")
    assert await fetched(talk, "BODY[TEXT]") == b"BODY[TEXT] {8}\r\nHello.\r\n FLAGS (\\Seen \\Recent)"
    assert await fetched(talk, "RFC822.TEXT") == b"RFC822.TEXT {8}\r\nHello.\r\n"
    assert await talk.say("NOOP") == [b"a OK NOOP completed"]


async def test_examine_marks_nothing_seen(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), command="EXAMINE INBOX")

    await fetched(talk, "BODY[]")

    assert await fetched(talk, "FLAGS") == b"FLAGS (\\Recent)"
    assert (await talk.say("STORE 1 FLAGS ()"))[0].startswith(b"a NO [READ-ONLY]")
    assert (await talk.say("EXPUNGE"))[0].startswith(b"a NO [READ-ONLY]")
    assert (await talk.say("MOVE 1 Trash"))[0].startswith(b"a NO [READ-ONLY]")


async def test_store_replaces_adds_and_takes_away(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"))

    for command, flags in (
        ("FLAGS (\\Seen Work)", b"Work \\Seen"),
        ("+FLAGS (\\Flagged work)", b"Work \\Flagged \\Seen"),
        ("-FLAGS (\\seen WORK)", b"\\Flagged"),
        ("FLAGS ()", b""),
    ):
        answers = await talk.say(f"STORE 1 {command}")
        assert b"* 1 FETCH (UID 1 FLAGS (%b))" % b" ".join([*([flags] if flags else []), b"\\Recent"]) in answers


@pytest.mark.parametrize("flags", ["(\\Nonsense)", "(" + "x" * 300 + ")", '("quoted")', "({3+}\r\nabc)"])
async def test_what_can_be_no_flag_is_refused(harness: Harness, flags: str) -> None:
    talk = await with_mail(harness, mail("One"))

    answers = await talk.say(f"STORE 1 +FLAGS {flags}")

    assert answers[0].startswith(b"a BAD")
    assert await fetched(talk, "FLAGS") == b"FLAGS (\\Recent)"


async def test_unchangedsince_leaves_alone_what_changed(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), mail("Two"))
    modseq = re.search(rb"MODSEQ \((\d+)\)", await fetched(talk, "MODSEQ", 2))
    assert modseq is not None
    await talk.say("STORE 1 +FLAGS.SILENT (\\Flagged)")

    answers = await talk.say(b"STORE 1:2 (UNCHANGEDSINCE %b) +FLAGS (\\Seen)" % modseq[1])

    assert answers[-1] == b"a OK [MODIFIED 1] Some messages have changed"
    assert re.fullmatch(rb"\* 2 FETCH \(UID 2 FLAGS \(\\Seen \\Recent\) MODSEQ \(\d+\)\)", answers[0])
    assert await fetched(talk, "FLAGS") == b"FLAGS (\\Flagged \\Recent)"


async def test_changedsince_tells_only_what_changed(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), mail("Two"))
    before = re.search(rb"MODSEQ \((\d+)\)", await fetched(talk, "MODSEQ", 2))
    assert before is not None
    await talk.say("STORE 1 +FLAGS (\\Flagged)")

    answers = await talk.say(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE %b)" % before[1])

    assert [line[:19] for line in answers[:-1]] == [b"* 1 FETCH (UID 1 FL"]
    assert b"MODSEQ (" in answers[0]


SEARCHES: dict[str, list[int]] = {
    "ALL": [1, 2, 3],
    "UNSEEN": [1, 3],
    "SEEN FLAGGED": [2],
    "NOT SEEN": [1, 3],
    'OR SEEN SUBJECT "gr\u00fc"': [2, 3],
    "KEYWORD work": [2],
    "UNKEYWORD work": [1, 3],
    "NEW": [1, 3],
    "OLD": [],
    "RECENT": [1, 2, 3],
    'FROM "zo\u00eb"': [3],
    "FROM bob@example": [1, 2],
    "TO ann": [1, 2, 3],
    "CC ann": [],
    "BODY berlin": [3],
    "BODY bob@example.test": [],
    "TEXT bob@example.test": [1, 2],
    'TEXT "\u201cinside\u201d"': [],
    "BODY {14+}\r\n<p>html inside": [3],
    'BODY "Gr\u00fc\u00dfe"': [3],
    "HEADER Message-ID nested": [3],
    'HEADER Subject "gr\u00fc\u00dfe"': [3],
    'HEADER MIME-Version ""': [3],
    "BEFORE 1-Jan-2024": [],
    "ON 1-Jan-2024": [1, 2, 3],
    "SINCE 2-Jan-2024": [],
    "SENTON 1-Jan-2024": [1, 2, 3],
    "SENTSINCE 2-Jan-2024": [],
    "LARGER 300": [3],
    "SMALLER 300": [1, 2],
    "OLDER 60": [1, 2, 3],
    "YOUNGER 60": [],
    "UID 2:3": [2, 3],
    "2:* UID 1:2": [2],
    '(OR (SEEN) (FROM "zo\u00eb")) NOT (FLAGGED)': [3],
    "NOT NOT ALL": [1, 2, 3],
    "UNDELETED UNDRAFT UNANSWERED": [1, 2, 3],
}


async def test_search_finds_what_was_asked_for(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), mail("Two"), NESTED)
    await talk.say("STORE 2 +FLAGS.SILENT (\\Seen \\Flagged Work)")

    answers = {criteria: (await talk.say(f"SEARCH CHARSET UTF-8 {criteria}"))[0] for criteria in SEARCHES}

    assert answers == {
        criteria: b"* SEARCH" + b"".join(b" %d" % number for number in found) for criteria, found in SEARCHES.items()
    }


async def test_a_group_is_found_by_its_name(harness: Harness) -> None:
    """RFC 5322 §3.4: `name: address, ...;` may be empty."""
    talk = await with_mail(harness, mail("One", Cc="Friends: joe@example.test;"), mail("Two", Cc="Nobody:;"))

    found = [(await talk.say(f"SEARCH CC {text}"))[0] for text in ("friends", "joe", "nobody")]

    assert found == [b"* SEARCH 1", b"* SEARCH 1", b"* SEARCH 2"]
    assert (await talk.say("SEARCH TO friends"))[0] == b"* SEARCH"


async def test_the_sent_date_is_that_of_the_senders_zone(harness: Harness) -> None:
    """RFC 9051 §6.4.4: the Date header, disregarding time and time zone; in UTC it is the 2nd."""
    talk = await with_mail(harness, NESTED)

    assert (await talk.say("SEARCH SENTON 1-Jan-2024"))[0] == b"* SEARCH 1"


async def test_an_unknown_charset_is_named(harness: Harness) -> None:
    talk = await with_mail(harness)

    assert (await talk.say("SEARCH CHARSET KOI8-R ALL"))[0].startswith(b"a NO [BADCHARSET (UTF-8 US-ASCII)]")


async def test_esearch_tells_ends_count_and_set(harness: Harness) -> None:
    talk = await with_mail(harness, *(mail(f"{number}") for number in range(5)))
    await talk.say("STORE 3 +FLAGS.SILENT (\\Seen)")

    assert await talk.say("UID SEARCH RETURN (MIN MAX COUNT ALL) UNSEEN") == [
        b'* ESEARCH (TAG "a") UID MIN 1 MAX 5 ALL 1:2,4:5 COUNT 4',
        b"a OK SEARCH completed",
    ]
    assert (await talk.say("SEARCH RETURN () SEEN"))[0] == b'* ESEARCH (TAG "a") ALL 3'
    assert (await talk.say("SEARCH RETURN (MIN COUNT) DELETED"))[0] == b'* ESEARCH (TAG "a") COUNT 0'


async def test_a_search_for_a_number_that_is_not_there_finds_nothing(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"))

    assert await talk.say("SEARCH RETURN () 1000") == [b'* ESEARCH (TAG "a")', b"a OK SEARCH completed"]
    assert (await talk.say("SEARCH NOT 2:1000"))[0] == b"* SEARCH 1"
    assert (await talk.say("FETCH 1000 UID"))[0].startswith(b"a BAD")


@pytest.mark.parametrize(
    "command",
    ["FETCH 1 MODSEQ", "SEARCH MODSEQ 1", "STATUS Sent (HIGHESTMODSEQ)", "STORE 1 (UNCHANGEDSINCE 1) FLAGS ()"],
)
async def test_the_first_command_about_modseqs_tells_that_of_the_mailbox(harness: Harness, command: str) -> None:
    """RFC 7162 §3.1"""
    talk = await with_mail(harness, mail("One"))

    first, again = await talk.say(command), await talk.say(command)

    assert first[0].startswith(b"* OK [HIGHESTMODSEQ ")
    assert not any(b"HIGHESTMODSEQ " in line for line in again if line.startswith(b"* OK"))


async def test_a_saved_search_can_be_used(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), mail("Two"))

    assert await talk.say("SEARCH RETURN (SAVE) SUBJECT two") == [b"a OK SEARCH completed"]
    assert (await talk.say("UID COPY $ Archive"))[-1].startswith(b"a OK [COPYUID")
    assert (await talk.say("SEARCH $"))[0] == b"* SEARCH 2"


async def test_search_by_modseq_tells_the_highest(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), mail("Two"), command="SELECT INBOX (CONDSTORE)")
    await talk.say("STORE 1 +FLAGS (\\Seen)")

    found = re.fullmatch(rb"\* SEARCH 1 2 \(MODSEQ (\d+)\)", (await talk.say("SEARCH MODSEQ 1"))[0])

    assert found is not None
    assert (await talk.say(b"SEARCH MODSEQ %b" % found[1]))[0] == b"* SEARCH 1 (MODSEQ %b)" % found[1]


async def test_copy_says_where_each_went_and_move_tells_it_before_the_expunges(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), mail("Two"), mail("Three"))

    copied = await talk.say("UID COPY 1,3 Archive")
    moved = await talk.say("MOVE 1,3 Trash")

    assert re.fullmatch(rb"a OK \[COPYUID \d+ 1,3 1:2\] COPY completed", copied[-1])
    assert re.fullmatch(rb"\* OK \[COPYUID \d+ 1,3 1:2\] Moved", moved[0])
    assert moved[1:3] == [b"* 1 EXPUNGE", b"* 2 EXPUNGE"]
    assert moved[-1].startswith(b"a OK")


@pytest.mark.parametrize("command", ["COPY 1", "UID MOVE 1"])
async def test_a_missing_target_asks_to_create_it(harness: Harness, command: str) -> None:
    talk = await with_mail(harness, mail("One"))

    assert (await talk.say(f"{command} Nowhere"))[0].startswith(b"a NO [TRYCREATE]")


async def test_uid_expunge_removes_only_deleted_ones_of_the_set(harness: Harness) -> None:
    talk = await with_mail(harness, mail("One"), mail("Two"), mail("Three"))
    await talk.say("STORE 1:2 +FLAGS.SILENT (\\Deleted)")

    assert (await talk.say("UID EXPUNGE 2:3"))[:-1] == [b"* 2 EXPUNGE"]
    assert (await talk.say("EXPUNGE"))[:-1] == [b"* 1 EXPUNGE"]


async def test_append_keeps_bytes_flags_and_date(harness: Harness) -> None:
    talk = await with_mail(harness)
    content = mail("Appended")

    go_ahead = await talk.say(b'APPEND INBOX (\\Seen Work) "01-Feb-2023 10:00:00 +0100" {%d}' % len(content))
    done = await talk.feed(content + b"\r\n")

    assert go_ahead == [b"+ Go ahead"]
    assert re.search(rb"\* 1 EXISTS\r\n.*a OK \[APPENDUID \d+ 1\] APPEND completed\r\n\Z", done, re.DOTALL)
    assert await talk.say("FETCH 1 FLAGS") == [
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft Work)",
        b"* 1 FETCH (FLAGS (Work \\Seen \\Recent))",
        b"a OK FETCH completed",
    ]
    assert await fetched(talk, "FLAGS INTERNALDATE BODY.PEEK[]") == (
        b'FLAGS (Work \\Seen \\Recent) INTERNALDATE " 1-Feb-2023 09:00:00 +0000" BODY[] {%d}\r\n%b'
        % (len(content), content)
    )


async def test_a_large_append_goes_to_disk_as_it_comes(harness: Harness) -> None:
    talk = await with_mail(harness)
    content = mail("Large", "0123456789abcdef\r\n" * 40_000)

    await talk.feed(b"a APPEND INBOX {%d+}\r\n%b" % (len(content), content[:100_000]))
    for start in range(100_000, len(content), 65_536):
        await talk.feed(content[start : start + 65_536])
    done = await talk.feed(b"\r\n")

    assert b"APPEND completed" in done
    assert await harness.contents((await harness.logins.verify(USER, "secret", address="")).account_id) == [content]


async def test_several_messages_are_appended_as_one(harness: Harness) -> None:
    talk = await with_mail(harness)
    one, two = mail("One"), mail("Two")

    answers = await talk.say(b"APPEND INBOX {%d+}\r\n%b (\\Seen) {%d+}\r\n%b" % (len(one), one, len(two), two))

    assert re.search(rb"APPENDUID \d+ 1:2\]", answers[-1])


async def test_an_append_is_refused_before_its_message_comes(harness: Harness) -> None:
    talk = await with_mail(harness)

    assert (await talk.say("APPEND Nowhere {500000}"))[0].startswith(b"a NO [TRYCREATE]")
    assert (await talk.say(f"APPEND INBOX {{{MAX_MESSAGE_BYTES + 1}}}"))[0].startswith(b"a NO [TOOBIG]")
    assert (await talk.say("NOOP"))[-1].startswith(b"a OK")


async def test_an_oversized_append_that_was_not_asked_for_is_swallowed(harness: Harness) -> None:
    talk = await with_mail(harness)
    size = MAX_MESSAGE_BYTES + 100_000

    answer = await talk.say(f"APPEND INBOX {{{size}+}}")
    for _ in range(size // 50_000):
        assert await talk.feed(b"a NOOP\r\n ." * 5_000) == b""
    await talk.feed(b"x" * (size % 50_000) + b"\r\n")

    assert answer[0].startswith(b"a NO [TOOBIG]")
    assert (await talk.say("NOOP"))[-1].startswith(b"a OK")


async def test_a_broken_off_append_leaves_nothing(harness: Harness) -> None:
    talk = await with_mail(harness)
    await talk.say(b"APPEND INBOX {300000+}\r\n" + b"x" * 200_000)

    talk.conversation.close()

    account_id = (await harness.logins.verify(USER, "secret", address="")).account_id
    assert await harness.contents(account_id) == []
    with pytest.raises(StopIteration):
        next(harness.store.blobs.old_names())


@pytest.mark.parametrize("items", ["BINARY[1]", "NONSENSE", "BODY[", "BODY[HEADER.FIELDS ()]", "(UID"])
async def test_an_item_that_is_not_offered_is_a_bad_command(harness: Harness, items: str) -> None:
    talk = await with_mail(harness, mail("One"))

    assert (await talk.say(f"FETCH 1 {items}"))[0].startswith(b"a BAD")


async def test_an_empty_append_is_refused(harness: Harness) -> None:
    talk = await with_mail(harness)

    assert (await talk.say(b"APPEND INBOX {0+}\r\n"))[0].startswith(b"a NO [CANNOT]")


async def test_a_flag_cannot_end_a_line(harness: Harness) -> None:
    """What a client stores is what another client reads: nothing in it may look like an answer."""
    talk = await with_mail(harness)
    content = mail("Evil\x00\x01 )\\", From='"a\\"b) (c" <x@example.test>')
    await talk.say(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))

    answer = await fetched(talk, "ENVELOPE")

    assert b"\x00" not in answer
    assert answer.count(b"\r\n") == answer.count(b"}\r\n")
