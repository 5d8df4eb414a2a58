"""Ends commands with an exit code, and prints one line per error to standard error.

Only bugs in Postgate print a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from app.errors import GatewayError, InvalidRequest

FAILURE = 1
"""The command failed."""
USAGE = 2
"""The arguments are wrong; nothing was done."""

VALUE_ERROR = "Value error, "
"""Prefix that Pydantic adds to the message of a validator."""

_EXPECTED = (GatewayError, OSError)


def complain(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(f"postgate: {' '.join(text.split())}", err=True)


def fail(*texts: str, code: int = FAILURE) -> NoReturn:
    """Exit with a code, after printing a line for each text."""
    for text in texts:
        complain(text)
    raise typer.Exit(code)


def exit_with_outcome(run: Callable[[], object]) -> NoReturn:
    """Run a command and exit with its code. If `run` does not return an integer, the code is 0."""
    try:
        code = run()
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        complain("aborted")
    except TyperException as error:
        if text := error.format_message():  # empty if the help was shown instead
            complain(text.replace(VALUE_ERROR, "", 1))
        sys.exit(error.exit_code)
    except _EXPECTED as error:
        complain(_text_of(error))
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        if not all(isinstance(error, _EXPECTED) for error in errors):
            raise
        for text in dict.fromkeys(map(_text_of, errors)):
            complain(text)
    sys.exit(FAILURE)


def _text_of(error: BaseException) -> str:
    match error:
        case InvalidRequest(faults=[first, *_]) if first.pointer:
            return f"{first.pointer.removeprefix('/')}: {first.detail}"
        case OSError(filename=str() | bytes() as name) if error.strerror:
            return f"{os.fsdecode(name)}: {error.strerror}"
        case _:
            return str(error)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        yield from _leaves(error) if isinstance(error, BaseExceptionGroup) else (error,)
