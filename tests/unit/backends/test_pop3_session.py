"""What real POP3 servers say, and what their refusals mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.backends.pop3.refusals import MaildropLocked, error_of
from app.wire.pop3_client import ReplyReader, parse_capabilities, parse_sizes, parse_status, parse_uidls

CORPUS = Path(__file__).parents[2] / "corpus" / "pop3"


class Session:
    """A recorded session, read a few bytes at a time."""

    def __init__(self, name: str, step: int) -> None:
        self._bytes = (CORPUS / name).read_bytes()
        self._step = step
        self.reader = ReplyReader()

    def more(self) -> None:
        assert self._bytes, "the session ended early"
        self.reader.feed(self._bytes[: self._step])
        self._bytes = self._bytes[self._step :]

    def status(self) -> bool:
        while (found := self.reader.status()) is None:
            self.more()
        return found.is_ok

    def lines(self) -> list[bytes]:
        assert self.status()
        found, is_ended = self.reader.lines()
        while not is_ended:
            self.more()
            more, is_ended = self.reader.lines()
            found += more
        return found

    def message(self) -> bytes:
        assert self.status()
        found, is_ended = self.reader.piece()
        while not is_ended:
            self.more()
            piece, is_ended = self.reader.piece()
            found += piece
        return found

    @property
    def is_over(self) -> bool:
        return not self._bytes and not len(self.reader)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("name", ["dovecot-2.3.pop3", "courier.pop3"])
def test_a_whole_session_is_understood_however_it_arrives(name: str, step: int) -> None:
    session = Session(name, step)

    assert session.status()
    offered = parse_capabilities(session.lines())
    assert session.status()
    assert session.status()
    session.lines()
    sizes, uidls = parse_sizes(session.lines()), parse_uidls(session.lines())
    header, content = session.message(), session.message()

    assert {"TOP", "UIDL", "PIPELINING"} <= offered.arguments.keys()
    assert sizes.keys() == uidls.keys() == {1, 2}
    assert header.endswith(b"Subject: one\r\n\r\n")
    assert content.endswith(b"Subject: two\r\n\r\n.dot\r\n")
    assert session.status()
    assert session.status()
    assert session.is_over


def test_what_servers_demand_is_heard() -> None:
    session = Session("courier.pop3", 100_000)
    session.status()

    assert parse_capabilities(session.lines()).login_delay_seconds == 10


@pytest.mark.parametrize("name", ["qpopper-in-use.pop3", "uw-ipop3d-in-use.pop3"])
def test_a_lock_is_known_with_a_code_and_without(name: str) -> None:
    assert isinstance(error_of(parse_status((CORPUS / name).read_bytes())), MaildropLocked)
