"""Exit codes, and the lines on standard error."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import pytest
import typer
from app import errors
from app.cli import app as command_line
from app.cli.outcome import exit_with_outcome


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def run() -> NoReturn:
        raise error

    return run


def outcome(run: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    """The exit code, and what was written on standard error."""
    with pytest.raises(SystemExit) as ended:
        exit_with_outcome(run)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (errors.NotFound("No such thing"), "No such thing"),
        (errors.InvalidRequest.at("/email", "Not an address"), "email: Not an address"),
        (PermissionError(13, "Permission denied", "/data"), "/data: Permission denied"),
        (errors.NotFound("In\ntwo   lines"), "In two lines"),
        (typer.Abort(), "aborted"),
        (ExceptionGroup("", [errors.NotFound("One"), ExceptionGroup("", [OSError("Two")])]), "One\npostgate: Two"),
        (ExceptionGroup("", [errors.NotFound("Same"), errors.NotFound("Same")]), "Same"),
    ],
)
def test_what_went_wrong_is_a_line_and_exit_code_1(
    error: BaseException, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(raising(error), capsys) == (1, f"postgate: {line}\n")


@pytest.mark.parametrize("error", [ValueError("ours"), ExceptionGroup("", [OSError(), ValueError("ours")])])
def test_a_fault_of_postgate_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)):
        exit_with_outcome(raising(error))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["tokn"], "No such command 'tokn'. Did you mean 'token'?"),
        (["mailbox", "remove"], "Missing argument 'email'."),
        (["serve", "--port", "80"], "No such option: --port"),
        (
            ["token", "create", "--scope", "nope"],
            "Invalid value for '--scope': 'nope' is not one of 'mail.read', 'mail.modify', 'mail.send', "
            "'mail.delete', 'mailboxes', 'settings', 'push', 'admin'.",
        ),
        (["restore"], "name the folder of a backup, or give --in-place"),
    ],
)
def test_wrong_arguments_are_a_line_and_exit_code_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = lambda: command_line(arguments, prog_name="postgate", standalone_mode=False)  # noqa: E731

    assert outcome(run, capsys) == (2, f"postgate: {line}\n")
