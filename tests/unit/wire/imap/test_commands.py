from __future__ import annotations

from collections.abc import Callable

import pytest
from app.errors import InvalidRequest
from app.wire.imap import commands, search
from app.wire.imap.commands import BodySection, KnownState
from app.wire.imap.encode import LITERAL_MINUS, LITERAL_PLUS, NO_PLUS, Command, Literal
from app.wire.imap.notify import EventGroup, notify
from app.wire.imap.search import HasFlag, TextField, TextMatch
from app.wire.imap.sets import SequenceSet

UIDS = SequenceSet.of([1, 2, 3, 7])


def sent(command: Command, non_sync_limit: int = LITERAL_PLUS) -> bytes:
    (segment,) = command.segments(b"t", non_sync_limit)
    return b"".join(piece if isinstance(piece, bytes) else b"<%d>" % piece.size_bytes for piece in segment)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (commands.noop(), b"NOOP"),
        (commands.capability(), b"CAPABILITY"),
        (commands.logout(), b"LOGOUT"),
        (commands.starttls(), b"STARTTLS"),
        (commands.idle(), b"IDLE"),
        (commands.namespace(), b"NAMESPACE"),
        (commands.close(), b"CLOSE"),
        (commands.unselect(), b"UNSELECT"),
        (commands.compress(), b"COMPRESS DEFLATE"),
        (commands.login("ann", 'p"w\\'), b'LOGIN "ann" "p\\"w\\\\"'),
        (commands.authenticate("PLAIN"), b"AUTHENTICATE PLAIN"),
        (commands.authenticate("PLAIN", b"AGE="), b"AUTHENTICATE PLAIN AGE="),
        (commands.authenticate("EXTERNAL", b""), b"AUTHENTICATE EXTERNAL ="),
        (commands.enable(["QRESYNC", "UTF8=ACCEPT"]), b"ENABLE QRESYNC UTF8=ACCEPT"),
        (commands.identify({"name": "Postgate"}), b'ID ("name" "Postgate")'),
        (commands.identify({}), b"ID NIL"),
        (commands.select("Entwürfe"), b'SELECT "Entw&APw-rfe"'),
        (commands.select("Entwürfe", is_utf8=True), 'SELECT "Entwürfe"'.encode()),
        (commands.select("a", is_read_only=True, condstore=True), b'EXAMINE "a" (CONDSTORE)'),
        (commands.select("a", known=KnownState(1, 2)), b'SELECT "a" (QRESYNC (1 2))'),
        (commands.select("a", known=KnownState(1, 2, UIDS)), b'SELECT "a" (QRESYNC (1 2 1:3,7))'),
        (commands.create("R&D"), b'CREATE "R&-D"'),
        (commands.create("Old", use="\\Archive"), b'CREATE "Old" (USE (\\Archive))'),
        (commands.delete("a"), b'DELETE "a"'),
        (commands.rename("a", "b"), b'RENAME "a" "b"'),
        (commands.subscribe("a"), b'SUBSCRIBE "a"'),
        (commands.unsubscribe("a"), b'UNSUBSCRIBE "a"'),
        (commands.list_mailboxes(), b'LIST "" "*"'),
        (commands.list_mailboxes("%", reference="a/"), b'LIST "a/" "%"'),
        (
            commands.list_mailboxes(select=["SUBSCRIBED"], returning=["SPECIAL-USE"], status=["MESSAGES", "UNSEEN"]),
            b'LIST (SUBSCRIBED) "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UNSEEN))',
        ),
        (commands.list_subscribed(), b'LSUB "" "*"'),
        (commands.status("a"), b'STATUS "a" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)'),
        (commands.fetch(UIDS, ["UID", "ENVELOPE"]), b"UID FETCH 1:3,7 (UID ENVELOPE)"),
        (
            commands.fetch(
                SequenceSet.parse("5:*"),
                [
                    BodySection(),
                    BodySection("HEADER", ("DATE", "x(y")),
                    BodySection("2.1.MIME"),
                    BodySection("1", partial=(5, 100), binary=True),
                ],
                changed_since=9,
                vanished=True,
            ),
            b'UID FETCH 5:* (BODY.PEEK[] BODY.PEEK[HEADER.FIELDS (DATE "x(y")] BODY.PEEK[2.1.MIME]'
            b" BINARY.PEEK[1]<5.100>) (CHANGEDSINCE 9 VANISHED)",
        ),
        (commands.store(UIDS, ["\\Seen", "$Junk"]), b"UID STORE 1:3,7 +FLAGS (\\Seen $Junk)"),
        (
            commands.store(UIDS, [], mode="", silent=True, unchanged_since=5),
            b"UID STORE 1:3,7 (UNCHANGEDSINCE 5) FLAGS.SILENT ()",
        ),
        (commands.copy(UIDS, "a"), b'UID COPY 1:3,7 "a"'),
        (commands.move(UIDS, "a"), b'UID MOVE 1:3,7 "a"'),
        (commands.expunge(UIDS), b"UID EXPUNGE 1:3,7"),
        (commands.append("a", 9), b'APPEND "a" {9+}\r\n<9>'),
        (
            commands.append("a", 9, flags=["\\Seen"], received_at_ms=0, utf8_headers=True),
            b'APPEND "a" (\\Seen) " 1-Jan-1970 00:00:00 +0000" UTF8 (~{9+}\r\n<9>)',
        ),
        (commands.search(HasFlag("\\Seen")), b"UID SEARCH SEEN"),
        (
            commands.search(TextMatch(TextField.SUBJECT, "é"), returning=["COUNT", "ALL"]),
            b"UID SEARCH RETURN (COUNT ALL) CHARSET UTF-8 SUBJECT {2+}\r\n\xc3\xa9",
        ),
        (commands.search(TextMatch(TextField.SUBJECT, "é"), is_utf8=True), 'UID SEARCH SUBJECT "é"'.encode()),
        (notify([]), b"NOTIFY NONE"),
        (
            notify(
                [
                    EventGroup("selected", ("MessageNew", "FlagChange"), ("UID", "FLAGS")),
                    EventGroup(["a", "b"], ()),
                    EventGroup(["Lists"], ("MailboxName",), with_children=True),
                ],
                with_status=True,
            ),
            b"NOTIFY SET STATUS (selected (MessageNew (UID FLAGS) FlagChange))"
            b' (mailboxes ("a" "b") NONE) (subtree ("Lists") (MailboxName))',
        ),
        (commands.quota_root("INBOX"), b'GETQUOTAROOT "INBOX"'),
    ],
)
def test_each_command_has_its_wire_form(command: Command, line: bytes) -> None:
    assert sent(command) == b"t " + line + b"\r\n"


def test_a_literal_waits_for_the_server_unless_it_need_not() -> None:
    command = commands.login("é", "p")
    upload = commands.append("a", 5_000)

    assert command.segments(b"t", NO_PLUS) == [(b"t LOGIN {2}\r\n",), (b'\xc3\xa9 "p"\r\n',)]
    assert command.segments(b"t", LITERAL_MINUS) == [(b't LOGIN {2+}\r\n\xc3\xa9 "p"\r\n',)]
    assert upload.segments(b"t", LITERAL_MINUS) == [(b't APPEND "a" {5000}\r\n',), (Literal(5_000), b"\r\n")]
    assert upload.segments(b"t", LITERAL_PLUS) == [(b't APPEND "a" {5000+}\r\n', Literal(5_000), b"\r\n")]


WITH_TEXT: list[Callable[[str], Command]] = [
    lambda text: commands.login(text, "p"),
    lambda text: commands.login("u", text),
    commands.select,
    commands.create,
    commands.delete,
    commands.subscribe,
    lambda text: commands.rename("a", text),
    lambda text: commands.select(text, is_utf8=True),
    commands.list_mailboxes,
    commands.status,
    lambda text: commands.append(text, 1),
    lambda text: commands.copy(UIDS, text),
    lambda text: commands.search(TextMatch(TextField.TEXT, text)),
    lambda text: commands.search(search.HeaderMatch(text, "x")),
    lambda text: commands.identify({"name": text}),
    lambda text: notify([EventGroup([text])]),
]
AS_WORDS: list[Callable[[str], Command]] = [
    lambda text: commands.store(UIDS, [text]),
    lambda text: commands.append("a", 1, flags=[text]),
    lambda text: commands.search(HasFlag(text)),
    lambda text: commands.search(search.Not(HasFlag(text))),
    lambda text: commands.search(search.ObjectId(text)),
    lambda text: commands.fetch(UIDS, [text]),
    lambda text: commands.fetch(UIDS, [BodySection(text)] if text else [""]),
    commands.authenticate,
    lambda text: commands.enable([text]),
    lambda text: commands.create("a", use=text),
    lambda text: commands.status("a", [text]),
    lambda text: commands.list_mailboxes(returning=[text]),
]


def with_header_field(text: str) -> Command:
    return commands.fetch(UIDS, [BodySection("HEADER", (text,))])


@pytest.mark.parametrize("build", [*WITH_TEXT, *AS_WORDS, with_header_field])
@pytest.mark.parametrize("hostile", ["a\r\nt LOGOUT", "a\nb", "a\rb", "a\x00b", "\r\n", "\ud800"])
def test_no_value_ends_its_command(build: Callable[[str], Command], hostile: str) -> None:
    with pytest.raises(InvalidRequest):
        build(hostile)


@pytest.mark.parametrize("build", WITH_TEXT)
@pytest.mark.parametrize("mark", ["a{5}", "a{5+}", "a~{5}", '"{5}', "a {5}"])
def test_a_value_that_ends_like_a_literal_announces_none(build: Callable[[str], Command], mark: str) -> None:
    quoted = mark.replace('"', '\\"').encode()

    assert b'"' + quoted + b'"' in sent(build(mark))
    assert not any(line.endswith(b"}") for line in sent(build(mark)).split(b"\r\n")[:-1] if b"APPEND" not in line)


@pytest.mark.parametrize("build", AS_WORDS)
@pytest.mark.parametrize("word", ["", "a b", "a{5}", "a)", "(a", 'a"', "é", "*", "a]"])
def test_a_word_that_could_be_more_than_one_is_refused(build: Callable[[str], Command], word: str) -> None:
    with pytest.raises(InvalidRequest):
        build(word)


@pytest.mark.parametrize("name", ["", "a b", "a:", 'a"', "é", "a]", "\x7f"])
def test_what_no_header_field_is_called_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        with_header_field(name)


def test_a_header_field_with_the_marks_of_the_grammar_is_quoted() -> None:
    assert sent(with_header_field("a{5}")) == b't UID FETCH 1:3,7 (BODY.PEEK[HEADER.FIELDS ("a{5}")])\r\n'


@pytest.mark.parametrize(
    "build",
    [
        lambda: commands.select(""),
        lambda: commands.expunge(SequenceSet()),
        lambda: commands.store(UIDS, ["a"], mode="x"),
        lambda: commands.store(UIDS, ["a"], unchanged_since=-1),
        lambda: commands.store(UIDS, ["a" * 256]),
        lambda: commands.login("a" * 70_000, "p"),
        lambda: commands.fetch(UIDS, ["UID"], changed_since=2**63),
    ],
)
def test_what_imap_cannot_carry_is_an_invalid_request(build: Callable[[], Command]) -> None:
    with pytest.raises(InvalidRequest):
        build()


def test_a_command_shows_nothing_but_its_name() -> None:
    command = commands.login("ann", "canary")

    assert repr(command) == "Command(LOGIN)"
    assert "canary" not in repr(commands.login("ann", "canaryé").parts[1])
