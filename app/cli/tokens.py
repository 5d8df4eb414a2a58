"""`postgate token`: server keys and account tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.install import on_services
from app.cli.outcome import FAILURE, complain
from app.cli.tables import Fields, instant, show
from app.services.access.callers import OPERATOR, Scope, TokenKind

if TYPE_CHECKING:
    from app.api.deps import Services
    from app.services.access.tokens import TokenRecord

commands = typer.Typer(help="Manage server keys and account tokens.", no_args_is_help=True)
PAGE = 500


@commands.command("create")
def create(
    name: Annotated[str, typer.Option(help="The purpose of the key.")] = "",
    scope: Annotated[list[Scope] | None, typer.Option(help="A right of the key; repeatable. Default: all.")] = None,
    expires_in_seconds: Annotated[int | None, typer.Option(min=1, help="Default: never.")] = None,
) -> None:
    """Create a server key. Prints its id and its secret, which is shown only once."""
    from app.services.access.tokens import TokenOrder

    scopes = frozenset(scope or Scope)
    order = TokenOrder(TokenKind.SERVER, scopes, name=name, expires_in_seconds=expires_in_seconds)
    record, secret = on_services(lambda services: services.tokens.create(order))
    print(f"{record.id} {secret}")


@commands.command("list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the valid tokens, newest first. Secrets are not stored and cannot be shown."""
    records = on_services(_all)
    fields = ("id", "kind", "name", "scopes", "created_at", "expires_at")
    show([_fields(record) for record in records], fields, as_json=as_json)


@commands.command("revoke")
def revoke(
    token_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of tokens.")],
) -> None:
    """Revoke tokens and all tokens created with them. Open connections end within a second."""
    unknown = on_services(lambda services: _revoke(services, token_ids))
    for token_id in unknown:
        complain(f"{token_id}: no such token")
    if unknown:
        raise typer.Exit(FAILURE)


async def _all(services: Services) -> list[TokenRecord]:
    records, below = await services.tokens.list(OPERATOR, PAGE)
    while below is not None:
        page, below = await services.tokens.list(OPERATOR, PAGE, below)
        records += page
    return records


async def _revoke(services: Services, token_ids: list[str]) -> list[str]:
    """Revoke tokens and return the unknown ids."""
    from app.services.access.tokens import TokenNotFound

    unknown = []
    for token_id in token_ids:
        try:
            await services.tokens.revoke(token_id, OPERATOR)
        except TokenNotFound:
            unknown.append(token_id)
    return unknown


def _fields(record: TokenRecord) -> Fields:
    return {
        "id": record.id,
        "kind": record.caller.kind.value,
        "name": record.name,
        "scopes": sorted(scope.value for scope in record.caller.scopes),
        "created_at": instant(record.created_at_ms),
        "expires_at": instant(record.caller.expires_at_ms),
    }
