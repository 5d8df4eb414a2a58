"""Records lines of mail protocols without passwords, tokens, message text and search terms."""

from __future__ import annotations

import re

from app.backends.sasl import Credential
from app.mail.masking import Masker
from app.mail.protocol_log import Direction, Recorder
from app.wire.imap.encode import Command, Segment
from app.wire.imap.fetch import is_fetch
from app.wire.imap.framing import Response
from app.wire.pop3_client import Pop3Status

LOGIN_DATA = "(login data)"
SHOWN_BYTES = 2_000

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_STATUS = re.compile(rb"(?:\*|[A-Z0-9]+) (?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z)", re.IGNORECASE)
_SHOWN_COMMANDS = frozenset({
    "CAPABILITY", "COMPRESS", "CREATE", "DELETE", "ENABLE", "EXAMINE", "GETQUOTAROOT", "ID", "IDLE", "LIST", "LSUB",
    "NAMESPACE", "NOOP", "NOTIFY", "RENAME", "SELECT", "STARTTLS", "STATUS", "SUBSCRIBE", "UID COPY", "UID EXPUNGE",
    "UID MOVE", "UID STORE", "UNSELECT", "UNSUBSCRIBE",
})  # fmt: skip
"""IMAP commands whose arguments are not secret; of other commands only the name is recorded."""
_SHOWN_VERBS = frozenset({"EHLO", "HELO", "MAIL", "RCPT", "DATA", "RSET", "QUIT", "NOOP", "STARTTLS"})
_SHOWN_POP3 = frozenset({"CAPA", "STLS", "USER", "STAT", "LIST", "UIDL", "TOP", "RETR", "DELE", "NOOP", "RSET", "QUIT"})
_CHALLENGE = 334


def hide(recorder: Recorder | None, credential: Credential) -> Masker:
    """A masker for this credential, used in a connection's protocol log and in its errors."""
    if recorder is None:
        return Masker((credential.secret,))
    recorder.masker.add(credential.secret)
    return recorder.masker


def imap_sent(recorder: Recorder | None, command: Command, tag: bytes, written: Segment) -> None:
    """Record a command. `written` is its first segment on the wire, with the tag."""
    if recorder is None or not recorder.is_on:
        return
    if command.name == "UID FETCH" or command.name in _SHOWN_COMMANDS:
        text = _text_of(written)
    else:
        text = f"{tag.decode()} {command.name} …"
    recorder.record(Direction.SENT, text)


def _text_of(segment: Segment) -> str:
    """The text of a segment, up to the caller's data."""
    first = segment[0]
    return first[:SHOWN_BYTES].decode("utf-8", "replace").rstrip() if isinstance(first, bytes) else "…"


def imap_line_sent(recorder: Recorder | None, line: bytes) -> None:
    """Record a line that is not a command."""
    if recorder is not None and recorder.is_on:
        recorder.record(Direction.SENT, "DONE" if line == b"DONE" else LOGIN_DATA)


def imap_received(recorder: Recorder | None, response: Response) -> None:
    if recorder is None or not recorder.is_on:
        return
    first = response.text[:SHOWN_BYTES]
    if first.startswith(b"+"):
        text = "+"
    else:
        text = first.decode("utf-8", "replace")
        if is_fetch(response) or _STATUS.match(first):
            text = _QUOTED.sub('"…"', text)
    recorder.record(Direction.RECEIVED, f"{text}{{…}}" if len(response.parts) > 1 else text)


def smtp_sent(recorder: Recorder | None, parts: tuple[bytes, ...]) -> None:
    """Record a command, or the response to a challenge, which has no known verb."""
    if recorder is None or not recorder.is_on:
        return
    verb = parts[0].decode("ascii", "replace").upper()
    if verb in _SHOWN_VERBS:
        text = b" ".join(parts).decode("utf-8", "replace")
    elif verb == "AUTH" and len(parts) > 1:
        text = f"AUTH {parts[1].decode('ascii', 'replace')} …"
    else:
        text = LOGIN_DATA
    recorder.record(Direction.SENT, text)


def smtp_received(recorder: Recorder | None, code: int, message: str) -> None:
    if recorder is not None and recorder.is_on:
        recorder.record(Direction.RECEIVED, f"{code}" if code == _CHALLENGE else f"{code} {message}")


def pop3_sent(recorder: Recorder | None, data: bytes) -> None:
    """Record one or more lines: commands, or the response to a challenge."""
    if recorder is None or not recorder.is_on:
        return
    for line in data[:SHOWN_BYTES].splitlines():
        verb, _, rest = line.decode("utf-8", "replace").partition(" ")
        if verb.upper() in _SHOWN_POP3:
            recorder.record(Direction.SENT, f"{verb} {rest}".rstrip())
        else:
            recorder.record(Direction.SENT, f"{verb} …" if verb.upper() in ("PASS", "AUTH", "APOP") else LOGIN_DATA)


def pop3_received(recorder: Recorder | None, status: Pop3Status) -> None:
    """Record a status line; the lists and messages after it are not recorded."""
    if recorder is not None and recorder.is_on:
        code = f" [{status.code}]" if status.code else ""
        line = f"{'+OK' if status.is_ok else '-ERR'}{code} {status.text}".rstrip()
        recorder.record(Direction.RECEIVED, "+" if status.is_challenge else line)
