"""`postgate mailbox`: the accounts of the embedded mail servers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.install import on_services
from app.cli.outcome import USAGE, fail
from app.cli.tables import instant, show
from app.mail.types import AccountKind
from app.services.access.callers import OPERATOR

if TYPE_CHECKING:
    from app.api.deps import Services
    from app.services.accounts.accounts import Account

commands = typer.Typer(help="Manage embedded accounts.", no_args_is_help=True)
PAGE = 500

Email = Annotated[str, typer.Argument(help="The address of the account.")]
Password = Annotated[str | None, typer.Option(help="Visible to other users. Default: a prompt.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@commands.command("add")
def add(
    email: Email,
    name: Annotated[str, typer.Option(help="The name of the owner.")] = "",
    password: Password = None,
    password_stdin: FromStdin = False,
) -> None:
    """Add an account in one of POSTGATE_DOMAINS, and print its id."""
    from app.services.accounts.accounts import NewAccount

    new = NewAccount(AccountKind.EMBEDDED, email, name, password=_password(password, password_stdin))
    print(on_services(lambda services: services.accounts.add(new)).id)


@commands.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the accounts, oldest first."""
    accounts = [account for account in on_services(_all) if account.kind is AccountKind.EMBEDDED]
    rows = [
        {
            "id": account.id,
            "email": account.email,
            "name": account.name,
            "created_at": instant(account.created_at_ms),
        }
        for account in accounts
    ]
    show(rows, ("id", "email", "name", "created_at"), as_json=as_json)


@commands.command("password")
def change_password(email: Email, password: Password = None, password_stdin: FromStdin = False) -> None:
    """Change a password. Sign-ins, mail sessions and open connections of the account end."""
    from app.services.accounts.accounts import AccountChanges

    changes = AccountChanges(password=_password(password, password_stdin))

    async def work(services: Services) -> None:
        await services.accounts.update(await services.accounts.embedded(email), changes)

    on_services(work)


@commands.command("remove")
def remove(
    email: Email, is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False
) -> None:
    """Remove an account with its mail and tokens."""
    if not is_sure:
        typer.confirm(f"Remove {email} with all its mail?", abort=True, err=True)

    async def work(services: Services) -> None:
        await services.accounts.remove(await services.accounts.embedded(email))

    on_services(work)


async def _all(services: Services) -> list[Account]:
    accounts, above = await services.accounts.page(OPERATOR, PAGE)
    while above is not None:
        page, above = await services.accounts.page(OPERATOR, PAGE, above)
        accounts += page
    return accounts


def _password(given: str | None, is_piped: bool) -> str:
    """The password from the option, a line of standard input, or a prompt."""
    if given is not None and is_piped:
        fail("give --password or --password-stdin, not both", code=USAGE)
    if is_piped:
        return sys.stdin.readline().rstrip("\r\n")
    if given is not None:
        return given
    entered: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return entered
