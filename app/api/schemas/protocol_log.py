"""Schemas of the protocol log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from app.api.schemas.base import AnswerModel, Integer, RequestModel, Time, time_of
from app.mail.protocol_log import LINES, Direction, ProtocolLogLine

MAX_MINUTES = 24 * 60


class StartLog(RequestModel):
    """How long to record."""

    minutes: Annotated[Integer, Field(ge=1, le=MAX_MINUTES)] = 15


class LogLine(AnswerModel):
    """One protocol line. `text` omits login data, literals, message text and search terms."""

    at: Time
    protocol: str = Field(description="imap, pop3 or smtp")
    connection: int = Field(description="The number of the connection in this process")
    direction: Direction
    text: str


class ProtocolLog(AnswerModel):
    """The last lines, oldest first."""

    recording_until: Time | None = Field(description="null: recording is off")
    items: list[LogLine] = Field(max_length=LINES)

    @classmethod
    def of(cls, until_ms: int | None, lines: Sequence[ProtocolLogLine]) -> ProtocolLog:
        items = [
            LogLine(
                at=time_of(trace_line.at_ms),
                protocol=trace_line.protocol,
                connection=trace_line.connection,
                direction=trace_line.direction,
                text=trace_line.text,
            )
            for trace_line in lines
        ]
        return cls(recording_until=None if until_ms is None else time_of(until_ms), items=items)
