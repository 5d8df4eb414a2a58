"""The command line: `postgate`. Exit codes and every command are described in docs/cli.md."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli import data, documents, mailboxes, serving, tokens
from app.cli.environment import warn_of_unknown_names
from app.cli.outcome import exit_with_outcome
from app.cli.serving import PREPARE_DEMO
from app.version import VERSION

app = typer.Typer(
    help="Postgate: a REST and WebSocket gateway to mail servers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(tokens.commands, name="token")
app.add_typer(mailboxes.commands, name="mailbox")
for command in (serving.serve, serving.demo, data.seal, data.forget_key, data.backup, data.restore):
    app.command()(command)
for command in (documents.openapi, documents.settings):
    app.command()(command)
app.command(PREPARE_DEMO, hidden=True)(serving.prepare_demo)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"postgate {VERSION}")
        raise typer.Exit


@app.callback()
def before_every_command(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Postgate: a REST and WebSocket gateway to mail servers."""
    if context.invoked_subcommand != PREPARE_DEMO:  # the demo itself has warned
        warn_of_unknown_names()


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    exit_with_outcome(lambda: app(prog_name="postgate", standalone_mode=False))
