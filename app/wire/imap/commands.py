"""Builders of the client's commands. They do not check the capabilities that their docstrings name.

Mailbox names are readable text. `is_utf8` means that UTF8=ACCEPT or IMAP4rev2 is ENABLED. Every builder raises
InvalidRequest for a value that IMAP cannot encode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.errors import InvalidRequest
from app.wire.imap import encode as enc
from app.wire.imap.dates import render_date_time
from app.wire.imap.encode import Argument, Command, Literal, command
from app.wire.imap.search import SearchKey, is_ascii
from app.wire.imap.search import encode as encode_search
from app.wire.imap.sets import SequenceSet

IDLE_DONE = b"DONE\r\n"
CONTINUATION_CANCEL = b"*\r\n"
"""Cancels a SASL exchange (RFC 9051 §6.2.2)."""

STATUS_ITEMS = ("MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN")


def capability() -> Command:
    return command("CAPABILITY")


def noop() -> Command:
    return command("NOOP")


def logout() -> Command:
    return command("LOGOUT")


def starttls() -> Command:
    return command("STARTTLS")


def idle() -> Command:
    """IDLE (RFC 2177). After the `+`, send `IDLE_DONE` to end it."""
    return command("IDLE")


def namespace() -> Command:
    return command("NAMESPACE")


def close() -> Command:
    """CLOSE, which expunges deleted messages. `unselect` does not."""
    return command("CLOSE")


def unselect() -> Command:
    """UNSELECT (RFC 3691)."""
    return command("UNSELECT")


def compress() -> Command:
    """COMPRESS DEFLATE (RFC 4978)."""
    return command("COMPRESS", b"DEFLATE")


def login(username: str, password: str) -> Command:
    return command("LOGIN", enc.string(username), enc.string(password))


def authenticate(mechanism: str, initial_response: bytes | None = None) -> Command:
    """AUTHENTICATE. `initial_response` is in base64, and needs SASL-IR (RFC 4959); b"" is sent as `=`."""
    arguments: list[Argument] = [enc.atom(mechanism)]
    if initial_response is not None:
        arguments.append(initial_response or b"=")
    return command("AUTHENTICATE", *arguments)


def enable(capabilities: Iterable[str]) -> Command:
    """ENABLE (RFC 5161)."""
    return command("ENABLE", *map(enc.atom, capabilities))


def identify(fields: Mapping[str, str]) -> Command:
    """ID (RFC 2971)."""
    pairs = [enc.string(text) for pair in fields.items() for text in pair]
    return command("ID", pairs or b"NIL")


@dataclass(frozen=True, slots=True)
class KnownState:
    """A client's last known state of a mailbox, for SELECT (QRESYNC …) (RFC 7162 §3.2.5)."""

    uid_validity: int
    modseq: int
    known_uids: SequenceSet | None = None


def select(
    mailbox: str,
    *,
    is_read_only: bool = False,
    condstore: bool = False,
    known: KnownState | None = None,
    is_utf8: bool = False,
) -> Command:
    """SELECT or EXAMINE. `condstore` requests CONDSTORE; `known` requests QRESYNC, which must be ENABLED."""
    name = "EXAMINE" if is_read_only else "SELECT"
    argument = enc.mailbox(mailbox, is_utf8=is_utf8)
    if known is not None:
        state: list[Argument] = [enc.number(known.uid_validity), enc.number(known.modseq)]
        if known.known_uids:
            state.append(str(known.known_uids).encode())
        return command(name, argument, [b"QRESYNC", state])
    return command(name, argument, [b"CONDSTORE"]) if condstore else command(name, argument)


def create(mailbox: str, *, use: str | None = None, is_utf8: bool = False) -> Command:
    """CREATE. `use`, a special use such as `\\Archive`, needs CREATE-SPECIAL-USE (RFC 6154)."""
    name = enc.mailbox(mailbox, is_utf8=is_utf8)
    return command("CREATE", name) if use is None else command("CREATE", name, [b"USE", [enc.flag(use)]])


def delete(mailbox: str, *, is_utf8: bool = False) -> Command:
    return command("DELETE", enc.mailbox(mailbox, is_utf8=is_utf8))


def rename(mailbox: str, new_name: str, *, is_utf8: bool = False) -> Command:
    return command("RENAME", enc.mailbox(mailbox, is_utf8=is_utf8), enc.mailbox(new_name, is_utf8=is_utf8))


def subscribe(mailbox: str, *, is_utf8: bool = False) -> Command:
    return command("SUBSCRIBE", enc.mailbox(mailbox, is_utf8=is_utf8))


def unsubscribe(mailbox: str, *, is_utf8: bool = False) -> Command:
    return command("UNSUBSCRIBE", enc.mailbox(mailbox, is_utf8=is_utf8))


def list_mailboxes(
    pattern: str = "*",
    *,
    reference: str = "",
    select: Iterable[str] = (),
    returning: Iterable[str] = (),
    status: Iterable[str] = (),
    is_utf8: bool = False,
) -> Command:
    """LIST. `select` and `returning` need LIST-EXTENDED (RFC 5258); `status` (items) needs LIST-STATUS (RFC 5819)."""
    arguments: list[Argument] = []
    selection = [enc.atom(option) for option in select]
    if selection:
        arguments.append(selection)
    arguments += [enc.pattern(reference, is_utf8=is_utf8), enc.pattern(pattern, is_utf8=is_utf8)]
    options: list[Argument] = [enc.atom(option) for option in returning]
    items = [enc.atom(item) for item in status]
    if items:
        options += [b"STATUS", items]
    if options:
        arguments += [b"RETURN", options]
    return command("LIST", *arguments)


def list_subscribed(pattern: str = "*", *, reference: str = "", is_utf8: bool = False) -> Command:
    """LSUB, for servers without LIST-EXTENDED."""
    return command("LSUB", enc.pattern(reference, is_utf8=is_utf8), enc.pattern(pattern, is_utf8=is_utf8))


def status(mailbox: str, items: Iterable[str] = STATUS_ITEMS, *, is_utf8: bool = False) -> Command:
    return command("STATUS", enc.mailbox(mailbox, is_utf8=is_utf8), [enc.atom(item) for item in items])


@dataclass(frozen=True, slots=True)
class BodySection:
    """The FETCH item BODY.PEEK[section]<offset.count>, or BINARY.PEEK[…], which the server decodes (RFC 3516).

    `section` is a part number, HEADER, TEXT or MIME as in "2.1.MIME", or "" for the whole message. `header_fields`
    limits a HEADER to these fields. `partial` is (offset, count) in bytes.
    """

    section: str = ""
    header_fields: tuple[str, ...] = ()
    partial: tuple[int, int] | None = None
    binary: bool = False

    def encoded(self) -> bytes:
        section = enc.atom(self.section) if self.section else b""
        if self.header_fields:
            section += b".FIELDS (%b)" % b" ".join(map(_header_name, self.header_fields))
        span = b""
        if self.partial is not None:
            span = b"<%b.%b>" % (enc.number(self.partial[0]), enc.number(self.partial[1]))
        return b"%b.PEEK[%b]%b" % (b"BINARY" if self.binary else b"BODY", section, span)


def _header_name(name: str) -> bytes:
    """Encode a header field's name, which may contain characters that an atom may not (RFC 5322 §2.2)."""
    if not name or not all("!" <= char <= "~" and char not in ':"\\[]' for char in name):
        raise InvalidRequest("A header field name must be printable ASCII without spaces, colons, quotes and brackets")
    return f'"{name}"'.encode() if any(char in "(){%*" for char in name) else name.encode()


def fetch(
    uids: SequenceSet,
    items: Iterable[str | BodySection],
    *,
    changed_since: int | None = None,
    vanished: bool = False,
) -> Command:
    """UID FETCH. `changed_since` needs CONDSTORE; `vanished` needs QRESYNC (RFC 7162)."""
    modifiers: list[Argument] = []
    if changed_since is not None:
        modifiers = [b"CHANGEDSINCE", enc.number(changed_since)]
    if vanished:
        modifiers.append(b"VANISHED")
    arguments: list[Argument] = [item.encoded() if isinstance(item, BodySection) else enc.atom(item) for item in items]
    fetching = command("UID FETCH", _uids(uids), arguments, *([modifiers] if modifiers else []))
    return replace(fetching, uids=uids)


def store(
    uids: SequenceSet,
    flags: Iterable[str],
    *,
    mode: str = "+",
    silent: bool = False,
    unchanged_since: int | None = None,
) -> Command:
    """UID STORE. `mode` is "+" to add, "-" to remove, "" to replace. `unchanged_since` needs CONDSTORE."""
    if mode not in ("+", "-", ""):
        raise InvalidRequest("The mode of a STORE must be +, - or empty")
    condition: list[Argument] = []
    if unchanged_since is not None:
        condition = [[b"UNCHANGEDSINCE", enc.number(unchanged_since)]]
    item = f"{mode}FLAGS{'.SILENT' if silent else ''}".encode()
    return replace(command("UID STORE", _uids(uids), *condition, item, [enc.flag(flag) for flag in flags]), uids=uids)


def copy(uids: SequenceSet, mailbox: str, *, is_utf8: bool = False) -> Command:
    return command("UID COPY", _uids(uids), enc.mailbox(mailbox, is_utf8=is_utf8))


def move(uids: SequenceSet, mailbox: str, *, is_utf8: bool = False) -> Command:
    """UID MOVE (RFC 6851)."""
    return command("UID MOVE", _uids(uids), enc.mailbox(mailbox, is_utf8=is_utf8))


def expunge(uids: SequenceSet) -> Command:
    """UID EXPUNGE (RFC 4315)."""
    return command("UID EXPUNGE", _uids(uids))


def append(
    mailbox: str,
    size_bytes: int,
    *,
    flags: Sequence[str] = (),
    received_at_ms: int | None = None,
    utf8_headers: bool = False,
    is_utf8: bool = False,
) -> Command:
    """APPEND of a message of `size_bytes`, which the caller sends in place of the literal.

    `utf8_headers` sends a message with raw UTF-8 headers as `UTF8 (~{n}…)`, after ENABLE UTF8=ACCEPT (RFC 6855 §4).
    """
    arguments: list[Argument] = [enc.mailbox(mailbox, is_utf8=is_utf8)]
    if flags:
        arguments.append([enc.flag(flag) for flag in flags])
    if received_at_ms is not None:
        arguments.append(f'"{render_date_time(received_at_ms)}"'.encode())
    if utf8_headers:
        arguments += [b"UTF8", [Literal(size_bytes, is_binary=True)]]
    else:
        arguments.append(Literal(size_bytes))
    return command("APPEND", *arguments)


def search(key: SearchKey, *, returning: Iterable[str] | None = None, is_utf8: bool = False) -> Command:
    """UID SEARCH. `returning` (MIN, MAX, COUNT, ALL, SAVE) needs ESEARCH (RFC 4731).

    CHARSET is sent only if the text needs it, and never after ENABLE UTF8=ACCEPT, which forbids it (RFC 6855 §3).
    """
    criteria = encode_search(key, is_utf8=is_utf8)
    arguments: list[Argument] = []
    if returning is not None:
        arguments += [b"RETURN", [enc.atom(option) for option in returning]]
    if not is_utf8 and not is_ascii(key):
        arguments += [b"CHARSET", b"UTF-8"]
    return command("UID SEARCH", *arguments, *criteria)


def quota_root(mailbox: str, *, is_utf8: bool = False) -> Command:
    """GETQUOTAROOT (RFC 9208)."""
    return command("GETQUOTAROOT", enc.mailbox(mailbox, is_utf8=is_utf8))


def _uids(uids: SequenceSet) -> bytes:
    if not uids:
        raise InvalidRequest("A command needs at least one message")
    return str(uids).encode()
