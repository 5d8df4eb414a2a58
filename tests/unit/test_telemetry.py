"""What a log line shows of an exception."""

from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys

import pytest
import structlog
from app import cli, telemetry
from app.errors import DatabaseUnavailable

FAULT = """
from app.telemetry import configure, get_logger

def sign_in(password):
    raise ValueError(f"invalid literal: {password!r}\\nDETAIL: {password}")

if {is_configured}:
    configure("info")
try:
    sign_in("canary" + "-secret")
except ValueError:
    get_logger("test").exception("conversation_failed")
"""


@pytest.mark.parametrize("is_configured", [True, False])
def test_a_logged_exception_shows_where_it_was_raised_and_no_value_of_a_variable(is_configured: bool) -> None:
    code = FAULT.replace("{is_configured}", str(is_configured))

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    logged = run.stdout + run.stderr
    assert "conversation_failed" in logged
    assert "in sign_in" in logged
    assert "ValueError: invalid literal: ***" in logged
    assert "canary-secret" not in logged


def test_a_library_s_exception_shows_no_value_of_a_variable(capsys: pytest.CaptureFixture[str]) -> None:
    known, handlers, level = structlog.get_config(), logging.getLogger().handlers, logging.getLogger().level
    try:
        telemetry.configure("info")
        try:
            os.environ["canary" + "-secret"]
        except KeyError:
            logging.getLogger("asyncio").exception("Task exception was never retrieved")
    finally:
        structlog.configure(**known)
        logging.getLogger().handlers = handlers
        logging.getLogger().setLevel(level)

    logged = capsys.readouterr().err
    assert "KeyError: ***" in logged
    assert "canary-secret" not in logged


class FullDisk(io.StringIO):
    """A log file on a disk without room."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_line_that_cannot_be_written_is_lost_and_fails_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    known = structlog.get_config()
    handlers, level = logging.root.handlers, logging.root.level
    monkeypatch.setattr(sys, "stderr", FullDisk())
    try:
        telemetry.configure("info")
        telemetry.get_logger(__name__).warning("disk_full")
    finally:
        structlog.configure(**known)
        logging.root.handlers, logging.root.level = handlers, level


def test_causes_and_the_exceptions_of_a_group_are_described() -> None:
    def fail() -> None:
        try:
            raise OSError(28, "No space left on device", "/var/lib/postgate/blobs")
        except OSError as error:
            raise ExceptionGroup("tasks", [DatabaseUnavailable("gone")]) from error

    with pytest.raises(ExceptionGroup) as raised:
        fail()

    text = telemetry.describe_exception(raised.value)
    assert text.index("No space left on device: '/var/lib/postgate/blobs'") < text.index("ExceptionGroup: tasks")
    assert "DatabaseUnavailable: gone" in text


def test_an_exception_that_is_its_own_cause_is_described() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    assert "first" in telemetry.describe_exception(first)


def test_the_command_line_shows_no_value_of_a_variable() -> None:
    assert cli.app.pretty_exceptions_show_locals is False
