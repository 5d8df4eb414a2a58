from __future__ import annotations

from contextlib import suppress
from datetime import date

import pytest
from app.wire.imap import commands, search
from app.wire.imap.arguments import CommandSyntaxError, UnsupportedCharset
from app.wire.imap.command_framing import CommandFramer, CommandLimits, ReceivedCommand
from app.wire.imap.commands import BodySection, KnownState
from app.wire.imap.encode import LITERAL_PLUS
from app.wire.imap.encode import Command as ClientCommand
from app.wire.imap.framing import StreamedLiteral
from app.wire.imap.notify import EventGroup, notify
from app.wire.imap.request import Command, Request
from app.wire.imap.request_parser import READERS, append_target, parse_command
from app.wire.imap.requests.append import Append, AppendedMessage
from app.wire.imap.requests.copy import Copy
from app.wire.imap.requests.enable import Enable
from app.wire.imap.requests.expunge import Expunge, UidExpunge
from app.wire.imap.requests.fetch import Fetch, SectionRequest
from app.wire.imap.requests.general import Identify, Noop, StartTlsCommand
from app.wire.imap.requests.idle import Idle
from app.wire.imap.requests.listing import ListMailboxes, MailboxStatusOf
from app.wire.imap.requests.login import Authenticate, Login
from app.wire.imap.requests.mailboxes import Create, Delete, Rename, Subscribe
from app.wire.imap.requests.notify import Notify, WatchedGroup
from app.wire.imap.requests.quota import GetQuota, GetQuotaRoot
from app.wire.imap.requests.search import Search
from app.wire.imap.requests.select import Resync, Select, Unselect
from app.wire.imap.requests.sort import Sort, SortKey, SortTerm
from app.wire.imap.requests.store import Store
from app.wire.imap.requests.thread import ThreadAlgorithm, ThreadMessages
from app.wire.imap.search import DateField, HasFlag, Not, SavedResult, SearchKey, TextField, TextMatch
from app.wire.imap.sets import SequenceSet
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import assert_linear, at_most_cpu_seconds


def framed(stream: bytes) -> tuple[bytes | StreamedLiteral, ...]:
    (event,) = CommandFramer().feed(stream)
    assert isinstance(event, ReceivedCommand)
    return event.parts


def read(line: bytes, *, is_utf8: bool = False) -> Command:
    request = parse_command(framed(b"t1 " + line + b"\r\n"), is_utf8=is_utf8)
    assert request.tag == "t1"
    return request.command


def numbers(text: str) -> SequenceSet:
    return SequenceSet.parse(text)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"noop", Noop()),
        (b"GETQUOTAROOT inbox", GetQuotaRoot("INBOX")),
        (b'GETQUOTA ""', GetQuota("")),
        (b"EXPUNGE", Expunge()),
        (b"IDLE", Idle()),
        (b"STARTTLS", StartTlsCommand()),
        (b"UNSELECT", Unselect()),
        (b'LOGIN ann "p \\"w\\\\"', Login("ann", 'p "w\\')),
        (b"LOGIN {3+}\r\na\r\n {2+}\r\n\xc3\xa9", Login("a\r\n", "é")),
        (b"AUTHENTICATE plain", Authenticate("PLAIN")),
        (b"AUTHENTICATE PLAIN =", Authenticate("PLAIN", b"")),
        (b"AUTHENTICATE PLAIN AGEAYg==", Authenticate("PLAIN", b"AGEAYg==")),
        (b"ENABLE CONDSTORE qresync", Enable(("CONDSTORE", "QRESYNC"))),
        (b"ID NIL", Identify(())),
        (b'ID ("Name" "x" "os" NIL)', Identify((("name", "x"), ("os", None)))),
        (b"SELECT inbox", Select("INBOX")),
        (b"EXAMINE &AOk- (CONDSTORE)", Select("é", is_read_only=True, condstore=True)),
        (b"SELECT a (QRESYNC (1 2))", Select("a", condstore=True, resync=Resync(KnownState(1, 2)))),
        (
            b"SELECT a (CONDSTORE QRESYNC (1 2 3:5,9 (1,3 3,9)))",
            Select(
                "a",
                condstore=True,
                resync=Resync(KnownState(1, 2, numbers("3:5,9")), (numbers("1,3"), numbers("3,9"))),
            ),
        ),
        (
            b"SELECT a (QRESYNC (1 2 (1 3)))",
            Select("a", condstore=True, resync=Resync(KnownState(1, 2), (numbers("1"), numbers("3")))),
        ),
        (b'CREATE "a b/"', Create("a b/")),
        (b"CREATE a (USE (\\Sent \\Drafts))", Create("a", ("\\Sent", "\\Drafts"))),
        (b"DELETE a]b", Delete("a]b")),
        (b"RENAME a b", Rename("a", "b")),
        (b"SUBSCRIBE a", Subscribe("a")),
        (b"UNSUBSCRIBE a", Subscribe("a", is_subscribed=False)),
        (b'LIST "" *', ListMailboxes("", ("*",))),
        (b'LIST "" ""', ListMailboxes("", ("",))),
        (b"LIST a/ %/b]*", ListMailboxes("a/", ("%/b]*",))),
        (b'LIST () "" (a)', ListMailboxes("", ("a",), is_extended=True)),
        (
            b'LIST (SUBSCRIBED RECURSIVEMATCH) "" ("INBOX" "x/%") RETURN (CHILDREN STATUS (MESSAGES UNSEEN))',
            ListMailboxes(
                "",
                ("INBOX", "x/%"),
                frozenset({"SUBSCRIBED", "RECURSIVEMATCH"}),
                frozenset({"CHILDREN"}),
                ("MESSAGES", "UNSEEN"),
                is_extended=True,
            ),
        ),
        (b'LSUB "" %', ListMailboxes("", ("%",), is_lsub=True)),
        (b"STATUS a (messages HIGHESTMODSEQ)", MailboxStatusOf("a", ("MESSAGES", "HIGHESTMODSEQ"))),
        (b"APPEND a {2+}\r\nhi", Append("a", (AppendedMessage(b"hi"),))),
        (
            b'APPEND a (\\Seen $x) " 1-Jan-1970 00:00:01 +0000" {2+}\r\nhi () UTF8 (~{3+}\r\n\x00yo)',
            Append(
                "a", (AppendedMessage(b"hi", ("\\Seen", "$x"), 1_000), AppendedMessage(b"\x00yo", utf8_headers=True))
            ),
        ),
        (b"UID EXPUNGE 1:4294967295", UidExpunge(numbers("1:4294967295"))),
        (b"FETCH 1:* ALL", Fetch(numbers("1:*"), ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"))),
        (b"FETCH $ (FLAGS flags)", Fetch(SavedResult(), ("FLAGS",))),
        (b"UID FETCH 1 FLAGS", Fetch(numbers("1"), ("UID", "FLAGS"), is_uid=True)),
        (
            b"UID FETCH 1 (UID) (CHANGEDSINCE 5 VANISHED)",
            Fetch(numbers("1"), ("UID", "MODSEQ"), is_uid=True, changed_since=5, vanished=True),
        ),
        (b"FETCH 1 PREVIEW (LAZY)", Fetch(numbers("1"), ("PREVIEW",))),
        (b"STORE 1 FLAGS ()", Store(numbers("1"), "", ())),
        (b"STORE 1 -flags.silent \\Seen a", Store(numbers("1"), "-", ("\\Seen", "a"), is_silent=True)),
        (
            b"UID STORE 1 (UNCHANGEDSINCE 7) +FLAGS (a)",
            Store(numbers("1"), "+", ("a",), is_uid=True, unchanged_since=7),
        ),
        (b"COPY $ a", Copy(SavedResult(), "a")),
        (b"UID MOVE 1 a", Copy(numbers("1"), "a", is_uid=True, is_move=True)),
        (b"NOTIFY NONE", Notify()),
        (
            b"NOTIFY SET status (selected-delayed (messagenew (UID BODY.PEEK[1]) MessageExpunge)) "
            b'(subtree "a" (MailboxName)) (mailboxes (a b) NONE) (personal (XNew))',
            Notify(
                (
                    WatchedGroup(
                        "SELECTED-DELAYED",
                        (),
                        ("MessageNew", "MessageExpunge"),
                        ("UID", SectionRequest((1,), is_peek=True)),
                    ),
                    WatchedGroup("SUBTREE", ("a",), ("MailboxName",)),
                    WatchedGroup("MAILBOXES", ("a", "b")),
                    WatchedGroup("PERSONAL", (), ("XNEW",)),
                ),
                with_status=True,
            ),
        ),
    ],
)
def test_each_command_is_read_into_its_type(line: bytes, command: Command) -> None:
    assert read(line) == command


@pytest.mark.parametrize(
    ("item", "section", "label"),
    [
        (b"BODY[]", SectionRequest(), b"BODY[]"),
        (b"body.peek[text]<0.5>", SectionRequest((), "TEXT", partial=(0, 5), is_peek=True), b"BODY[TEXT]<0>"),
        (b"BODY[1.2.MIME]", SectionRequest((1, 2), "MIME"), b"BODY[1.2.MIME]"),
        (b"BODY[4.HEADER]", SectionRequest((4,), "HEADER"), b"BODY[4.HEADER]"),
        (
            b'BODY[HEADER.FIELDS.NOT (date "From" "x(")]',
            SectionRequest((), "HEADER.FIELDS.NOT", ("DATE", "FROM", "X(")),
            b'BODY[HEADER.FIELDS.NOT (DATE FROM "X(")]',
        ),
        (b"BINARY.PEEK[1]<3.4>", SectionRequest((1,), "", (), (3, 4), True, "BINARY"), b"BINARY[1]<3>"),
        (b"BINARY.SIZE[1]", SectionRequest((1,), is_peek=True, name="BINARY.SIZE"), b"BINARY.SIZE[1]"),
    ],
)
def test_a_body_section_is_read_and_named_in_the_answer(item: bytes, section: SectionRequest, label: bytes) -> None:
    command = read(b"FETCH 1 (" + item + b")")

    assert command == Fetch(numbers("1"), (section,))
    assert section.label == label


@pytest.mark.parametrize(
    ("criteria", "key"),
    [
        (b"NEW", search.And((HasFlag("\\Recent"), Not(HasFlag("\\Seen"))))),
        (b"OLD UNDRAFT", search.And((Not(HasFlag("\\Recent")), Not(HasFlag("\\Draft"))))),
        (b"CHARSET us-ascii TEXT x", TextMatch(TextField.TEXT, "x")),
        (b'MODSEQ "/flags/\\\\draft" all 620', search.ModifiedSince(620)),
        (b"(((SEEN)))", HasFlag("\\Seen")),
        (b'SENTON "1-Feb-2024"', search.DateMatch(DateField.SENT_ON, date(2024, 2, 1))),
        (b"UID $", SavedResult(is_uid=True)),
        (b"KEYWORD $Junk 2,4:*", search.And((HasFlag("$Junk"), search.Numbers(numbers("2,4:*"))))),
        (b"SUBJECT {2+}\r\n\xc3\xa9", TextMatch(TextField.SUBJECT, "é")),
    ],
)
def test_search_keys_are_read_as_written(criteria: bytes, key: SearchKey) -> None:
    assert read(b"SEARCH " + criteria) == Search(key)


def test_a_search_says_what_it_wants_back() -> None:
    assert read(b"UID SEARCH RETURN (MIN save) ALL") == Search(search.All(), frozenset({"MIN", "SAVE"}), is_uid=True)
    assert read(b"SEARCH RETURN () ALL") == Search(search.All(), frozenset())


@pytest.mark.parametrize(
    ("arguments", "terms"),
    [
        (b"(SUBJECT) UTF-8 ALL", (SortTerm(SortKey.SUBJECT),)),
        (
            b"(REVERSE DATE subject displayFrom) us-ascii ALL",
            (SortTerm(SortKey.DATE, True), SortTerm(SortKey.SUBJECT), SortTerm(SortKey.DISPLAY_FROM)),
        ),
        (b"(SIZE FROM REVERSE SIZE) UTF-8 ALL", (SortTerm(SortKey.SIZE), SortTerm(SortKey.FROM))),
    ],
)
def test_of_the_keys_of_a_sort_the_first_of_each_counts(arguments: bytes, terms: tuple[SortTerm, ...]) -> None:
    assert read(b"SORT " + arguments) == Sort(terms, search.All())
    assert read(b"UID SORT " + arguments) == Sort(terms, search.All(), is_uid=True)
    assert read(b"SORT RETURN (COUNT) " + arguments) == Sort(terms, search.All(), frozenset({"COUNT"}))


def test_a_thread_names_its_algorithm() -> None:
    unseen = Not(HasFlag("\\Seen"))

    assert read(b"THREAD references UTF-8 UNSEEN") == ThreadMessages(ThreadAlgorithm.REFERENCES, unseen)
    assert read(b"UID THREAD ORDEREDSUBJECT US-ASCII UNSEEN") == ThreadMessages(
        ThreadAlgorithm.ORDERED_SUBJECT, unseen, is_uid=True
    )


def test_an_unknown_charset_is_an_answer_of_its_own() -> None:
    with pytest.raises(UnsupportedCharset) as caught:
        read(b"SEARCH CHARSET KOI8-R TEXT x")

    assert (caught.value.tag, caught.value.charset) == ("t1", "KOI8-R")


def test_mailbox_names_are_utf8_once_that_is_enabled() -> None:
    assert read('SELECT "Büro & mehr"'.encode(), is_utf8=True) == Select("Büro & mehr")


MALFORMED = rb"""
NOOP x
NOOP(
XYZZY
UID NOOP
UID
LOGIN a
LOGIN a "b
LOGIN a "b"c
LOGIN a "\b"
AUTHENTICATE
AUTHENTICATE PLAIN !
ENABLE
ID (
ID ("a")
ID (a b)
SELECT
SELECT a b
SELECT a ()
SELECT a (X)
SELECT a (QRESYNC (1))
SELECT a%
CREATE a (USE \Sent)
RENAME a
LIST ""
LIST (X) "" *
LIST "" * RETURN (X)
LIST "" ()
LIST (RECURSIVEMATCH) "" *
LIST "" * X
STATUS a ()
STATUS a (X)
STATUS a
APPEND a
APPEND a hi
APPEND a (x y
UID EXPUNGE
UID EXPUNGE 0
UID EXPUNGE 1,
FETCH 1
FETCH 1 ()
FETCH 1 (X)
FETCH 1 (ALL)
FETCH x FLAGS
FETCH 1 BODY[
FETCH 1 BODY[X]
FETCH 1 BODY[MIME]
FETCH 1 BODY[0]
FETCH 1 BODY[1.]
FETCH 1 BODY[]<0>
FETCH 1 BODY[]<0.0>
FETCH 1 BODY[HEADER.FIELDS]
FETCH 1 BODY[HEADER.FIELDS ()]
FETCH 1 BODY[HEADER.FIELDS ("a b")]
FETCH 1 BINARY[TEXT]
FETCH 1 BINARY.SIZE[1]<0.1>
FETCH 1 FLAGS (X)
FETCH 1 FLAGS (VANISHED CHANGEDSINCE 1)
UID FETCH 1 UID (VANISHED)
STORE 1 FLAG (a)
STORE 1 FLAGS
STORE 1 FLAGS (a
STORE 1 (X 1) FLAGS (a)
STORE 1 FLAGS (a*)
COPY 1
COPY a 1
NOTIFY
NOTIFY SET
NOTIFY SET STATUS
NOTIFY SET (x NONE)
NOTIFY SET (personal ())
NOTIFY SET (mailboxes () NONE)
NOTIFY SET (selected NONE
NOTIFY NONE x
SEARCH
SEARCH X
SEARCH NOT
SEARCH OR SEEN
SEARCH ()
SEARCH (SEEN
SEARCH 0
SEARCH RETURN (X) ALL
SEARCH SINCE soon
SEARCH LARGER -1
SEARCH MODSEQ x
SEARCH LARGER 9223372036854775808
SEARCH LARGER 99999999999999999999
SEARCH UNRECENT
SORT () UTF-8 ALL
SORT (REVERSE) UTF-8 ALL
SORT (NAME) UTF-8 ALL
SORT (REVERSE REVERSE DATE) UTF-8 ALL
SORT (DATE) UTF-8
SORT(DATE) UTF-8 ALL
SORT RETURN (PARTIAL) (DATE) UTF-8 ALL
SEARCH OLDER 0
SEARCH YOUNGER 0
SELECT a (QRESYNC (1 1 5:*))
SELECT a (QRESYNC (1 1 1:5 (1:* 1:5)))
THREAD UTF-8 ALL
THREAD REFS UTF-8 ALL
THREAD REFERENCES UTF-8
THREAD RETURN (ALL) REFERENCES UTF-8 ALL
""".split(b"\n")[1:-1]
BINARY_OR_LONG = [
    b"",
    b"NOOP ",
    b"LOGIN a ",
    b"ENABLE ",
    b"SEARCH SEEN ",
    b"SEARCH RETURN () ",
    b"LOGIN a \x80",
    b'LOGIN a "\xff"',
    b'LOGIN a "\x00"',
    b"LOGIN {1+}\r\n\x00 b",
    b'APPEND a "soon" {1+}\r\nx',
    b"APPEND a {1+}\r\nx ",
    b"APPEND a {1+}\r\nxy",
    b"APPEND a UTF8 (~{1+}\r\nx",
    b"FETCH 1 BODY[HEADER.FIELDS ({3+}\r\na\r\n)]",
    b"SEARCH " + b"NOT " * 100 + b"SEEN",
    b"SEARCH " + b"(" * 100 + b"SEEN" + b")" * 100,
    b"SEARCH" + b" SEEN" * 1_100,
    b"ID (" + b'"a" "b" ' * 40 + b'"a" "b")',
]


@pytest.mark.parametrize("line", MALFORMED + BINARY_OR_LONG)
def test_a_command_that_breaks_the_grammar_is_refused_with_its_tag(line: bytes) -> None:
    with pytest.raises(CommandSyntaxError) as caught:
        read(line)

    assert caught.value.tag == "t1"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("line", [b"", b" NOOP", b"+ NOOP", b"(", b"\x00", b"\xff NOOP", b"a" * 200 + b" NOOP"])
def test_a_line_without_a_tag_is_refused_without_one(line: bytes) -> None:
    with pytest.raises(CommandSyntaxError) as caught:
        parse_command((line,))

    assert caught.value.tag == "*"


def test_a_streamed_message_stands_in_its_append_and_nowhere_else() -> None:
    streamed = StreamedLiteral(1, 70_000)

    assert parse_command((b"t APPEND a ", streamed, b"")) == Request("t", Append("a", (AppendedMessage(streamed),)))
    with pytest.raises(CommandSyntaxError):
        parse_command((b"t SELECT ", streamed, b""))


def test_the_mailbox_of_an_append_is_known_before_its_message() -> None:
    assert append_target((b"t APPEND &AOk- (\\Seen) ",)) == "é"
    assert append_target((b"t APPEND ", b"a b", b" ")) == "a b"
    for parts in ((b"t SELECT a ",), (b"t APPEND ",), (b"t APPEND ", StreamedLiteral(1, 70_000), b"")):
        with pytest.raises(CommandSyntaxError) as caught:
            append_target(parts)
        assert caught.value.tag == "t"


UIDS = SequenceSet.of([1, 2, 9])
KNOWN = KnownState(4, 5, UIDS)
DEEP = search.Or(
    search.And((TextMatch(TextField.SUBJECT, "é {5}"), Not(HasFlag("$x")))),
    Not(search.Or(search.HeaderMatch("List-Id", ""), search.Numbers(UIDS, is_uid=True))),
)


@pytest.mark.parametrize(
    ("sent", "understood"),
    [
        (commands.login("ü{5}", 'p"\\{5+}'), Login("ü{5}", 'p"\\{5+}')),
        (commands.authenticate("X-OAUTH", b""), Authenticate("X-OAUTH", b"")),
        (commands.enable(["UTF8=ACCEPT"]), Enable(("UTF8=ACCEPT",))),
        (commands.identify({"name": "a"}), Identify((("name", "a"),))),
        (
            commands.select("R&D/é", known=KnownState(4, 5, UIDS)),
            Select("R&D/é", False, True, Resync(KnownState(4, 5, UIDS))),
        ),
        (commands.create("a*", use="\\Junk"), Create("a*", ("\\Junk",))),
        (commands.rename("a", "{5}"), Rename("a", "{5}")),
        (
            commands.list_mailboxes("é%", select=["SPECIAL-USE"], returning=["SUBSCRIBED"], status=["SIZE"]),
            ListMailboxes("", ("é%",), frozenset({"SPECIAL-USE"}), frozenset({"SUBSCRIBED"}), ("SIZE",), False, True),
        ),
        (commands.status("a", ["UIDNEXT"]), MailboxStatusOf("a", ("UIDNEXT",))),
        (
            commands.fetch(
                UIDS, ["UID", BodySection("1", partial=(0, 9)), BodySection("HEADER", ("TO",))], changed_since=4
            ),
            Fetch(
                UIDS,
                (
                    "UID",
                    SectionRequest((1,), "", (), (0, 9), True),
                    SectionRequest((), "HEADER.FIELDS", ("TO",), None, True),
                    "MODSEQ",
                ),
                True,
                4,
            ),
        ),
        (
            commands.store(UIDS, ["\\Seen"], mode="-", silent=True, unchanged_since=3),
            Store(UIDS, "-", ("\\Seen",), True, True, 3),
        ),
        (commands.move(UIDS, "a"), Copy(UIDS, "a", is_uid=True, is_move=True)),
        (commands.expunge(UIDS), UidExpunge(UIDS)),
        (commands.search(DEEP, returning=["ALL"]), Search(DEEP, frozenset({"ALL"}), is_uid=True)),
        (
            notify([EventGroup("selected", ("MessageNew",), ("UID",)), EventGroup(["é"], ())]),
            Notify((WatchedGroup("SELECTED", (), ("MessageNew",), ("UID",)), WatchedGroup("MAILBOXES", ("é",)))),
        ),
    ],
)
def test_our_server_understands_our_client(sent: ClientCommand, understood: Command) -> None:
    (segment,) = sent.segments(b"t", LITERAL_PLUS)
    (line,) = segment
    assert isinstance(line, bytes)

    assert parse_command(framed(line)) == Request("t", understood)


SENDABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=40)


@given(SENDABLE)
def test_any_text_of_the_client_reaches_the_server_as_it_is(text: str) -> None:
    for sent, understood in (
        (commands.login(text, text), Login(text, text)),
        (commands.search(TextMatch(TextField.BODY, text)), Search(TextMatch(TextField.BODY, text), is_uid=True)),
    ):
        ((line,),) = sent.segments(b"t", LITERAL_PLUS)
        assert isinstance(line, bytes)
        assert parse_command(framed(line)).command == understood


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=40),
    st.booleans(),
)
def test_any_mailbox_name_reaches_the_server_as_it_is(name: str, is_utf8: bool) -> None:
    ((line,),) = commands.delete(name, is_utf8=is_utf8).segments(b"t", LITERAL_PLUS)
    assert isinstance(line, bytes)

    found = parse_command(framed(line), is_utf8=is_utf8).command

    assert found == Delete("INBOX" if name.upper() == "INBOX" else name)


STARTS = [b"", b"t ", b"t FETCH 1 ", b"t NOTIFY SET ", b"t SELECT a (QRESYNC ("]
STARTS += [f"t {name} ".encode() for name in READERS]


@given(
    st.sampled_from(STARTS),
    st.binary(max_size=60) | st.text('() "\\{}[]*%1:,<.>$aOR', max_size=60).map(str.encode),
)
def test_any_line_is_a_command_or_a_syntax_error(start: bytes, rest: bytes) -> None:
    try:
        parse_command((start + rest,))
    except (CommandSyntaxError, UnsupportedCharset):
        return


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"t ",
        b"t LOGIN ",
        b't LOGIN "',
        b"t LIST ",
        b"t SELECT a (",
        b"t ENABLE ",
        b"t APPEND a (",
        b"t ID (",
        b"t AUTHENTICATE PLAIN ",
        b"t NOTIFY SET (",
        b"t FETCH ",
        b"t FETCH 1 ",
        b"t FETCH 1 BODY[",
        b"t FETCH 1 BODY[HEADER.FIELDS (",
        b"t STORE 1 FLAGS (",
        b"t SEARCH ",
        b"t SEARCH SUBJECT ",
        b"t SEARCH LARGER ",
    ],
)
@pytest.mark.parametrize("token", [b"a", b"(", b'"', b"\\", b'\\"', b"1", b"1,", b"a ", b'"" ', b"9.", b"NOT ", b"["])
def test_a_long_token_in_any_state_costs_linear_time(start: bytes, token: bytes) -> None:
    def parse(count: int) -> None:
        with suppress(CommandSyntaxError):
            parse_command((start + token * count,))

    assert_linear(parse, 6_000)


def test_a_command_of_a_hundred_thousand_literals_is_read_in_linear_time() -> None:
    framer = CommandFramer(CommandLimits(command_bytes=10**8, literals=10**6))
    (event,) = framer.feed(b"t ID (" + b"{1+}\r\na " * 100_000 + b"NIL)\r\n")
    assert isinstance(event, ReceivedCommand)

    with at_most_cpu_seconds(1), pytest.raises(CommandSyntaxError):
        parse_command(event.parts)


def test_a_login_is_never_shown_with_its_secret() -> None:
    assert "canary" not in repr(Request("t", Login("ann", "canary")))
    assert "canary" not in repr(Request("t", Authenticate("PLAIN", b"canary")))
