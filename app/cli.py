"""The command line."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
import uvicorn
from fastapi import FastAPI

from app import telemetry
from app.errors import GatewayError
from app.security.vault import MASTER_KEY_FILE
from app.settings import Settings

if TYPE_CHECKING:
    from app.api.deps import Services

T = TypeVar("T")

WS_FRAME_LIMIT_BYTES = 1024 * 1024
GRACE_SECONDS = 8
"""How long requests under way may take after SIGTERM."""

app = typer.Typer(help="Postgate: REST and WebSocket over mail servers.", no_args_is_help=True, add_completion=False)

SayReady = Callable[[int], None]
"""Called with the HTTP port once everything listens."""


class _Server(uvicorn.Server):
    """uvicorn, with a word when it listens and one to the streams before it stops."""

    def __init__(self, config: uvicorn.Config, application: FastAPI, say_ready: SayReady) -> None:
        super().__init__(config)
        self._application = application
        self._say_ready = say_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._say_ready(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        services = getattr(self._application.state, "services", None)
        if services is not None:
            services.health.is_draining = True
            services.draining.set()
            await asyncio.sleep(0.2)  # streams say goodbye with their own close code
        await super().shutdown(sockets)


def _run(settings: Settings, application: FastAPI, say_ready: SayReady) -> None:
    telemetry.configure(settings.log_level)
    config = uvicorn.Config(
        application,
        host=settings.bind,
        port=settings.http_port,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=WS_FRAME_LIMIT_BYTES,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=GRACE_SECONDS,
        lifespan="on",
    )
    _Server(config, application, say_ready).run()


@app.command()
def serve() -> None:
    """Run in production: no demo data; refuses insecure settings."""
    from app.main import create_app

    settings = Settings()
    _refuse_insecure(settings)
    _run(settings, create_app(settings), lambda _: print("ready", flush=True))


@app.command()
def demo() -> None:
    """Run everything in one process with the domain demo.test, two users and demo mail."""
    from app import demo as demo_data
    from app.main import create_app

    settings = Settings()
    settings = settings.model_copy(
        update={
            "domains": settings.domains or (demo_data.DOMAIN,),
            "net_allow": settings.net_allow or demo_data.LOOPBACK,
        }
    )
    facts: dict[str, Any] = {}

    async def when_open(runtime: Any) -> None:
        facts.update(await demo_data.prepare(runtime))

    def say_ready(port: int) -> None:
        facts["base_url"] = f"http://{settings.bind}:{port}"
        path = demo_data.write(facts, settings.data_dir)
        print(demo_data.what_to_try(facts, path))
        print("ready", flush=True)

    _run(settings, create_app(settings, when_open), say_ready)


@app.command()
def openapi(folder: Path = Path("openapi")) -> None:
    """Write the API's description, openapi.json and asyncapi.yaml, from the code."""
    from app.api.application import create_api
    from app.api.openapi import write

    write(create_api(), folder)


tokens = typer.Typer(help="Keys and tokens of the API.", no_args_is_help=True)
mailboxes = typer.Typer(help="Accounts whose mail lives here.", no_args_is_help=True)
app.add_typer(tokens, name="token")
app.add_typer(mailboxes, name="mailbox")


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Option(help="What it is for")] = "",
    scope: Annotated[list[str] | None, typer.Option(help="A right that it has; several times; default: all")] = None,
    expires_in_seconds: Annotated[int | None, typer.Option(help="Default: never")] = None,
) -> None:
    """Make a server key and print its secret, which is shown this once."""
    from app.services.callers import Scope, TokenKind
    from app.services.tokens import TokenOrder

    scopes = frozenset(Scope(one) for one in scope) if scope else frozenset(Scope)
    order = TokenOrder(TokenKind.SERVER, scopes, name=name, expires_in_seconds=expires_in_seconds)
    record, secret = asyncio.run(_with_services(lambda services: services.tokens.create(order)))
    print(f"{record.id} {secret}")


@mailboxes.command("add")
def add_mailbox(
    email: str,
    name: Annotated[str, typer.Option(help="The person's name")] = "",
    password: Annotated[str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True)] = "",
) -> None:
    """Add an account in one of the domains of POSTGATE_DOMAINS; its mailboxes are there at once."""
    from app.mail.types import AccountKind
    from app.services.accounts import NewAccount

    new = NewAccount(AccountKind.EMBEDDED, email, name, password=password)
    account = asyncio.run(_with_services(lambda services: services.accounts.add(new)))
    print(account.id)


async def _with_services(work: Callable[[Services], Awaitable[T]]) -> T:
    from app.runtime import open_services

    async with open_services(Settings()) as services:
        return await work(services)


def _refuse_insecure(settings: Settings) -> None:
    """Exit with a word on each setting that production must not have."""
    problems = list(_insecurities(settings))
    for problem in problems:
        typer.echo(f"refused: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _insecurities(settings: Settings) -> Iterator[str]:
    if os.environ.get("POSTGATE_FAULT_POINT"):
        yield "POSTGATE_FAULT_POINT is set: this process would kill itself"
    if any(network.prefixlen == 0 for network in settings.net_allow):
        yield "POSTGATE_NET_ALLOW allows every network, so that accounts could reach internal hosts"
    if "*" in settings.cors_origins:
        yield "POSTGATE_CORS_ORIGINS allows every page"
    if settings.smarthost is not None and settings.smarthost_security == "none" and settings.smarthost_password:
        yield "POSTGATE_SMARTHOST_SECURITY=none sends the smarthost's password in clear"
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        yield "POSTGATE_TLS_CERTIFICATE and POSTGATE_TLS_KEY go together"
    key_file = settings.master_key_file or settings.data_dir / MASTER_KEY_FILE
    if settings.master_key is None and key_file.exists() and key_file.stat().st_mode & 0o077:
        yield f"{key_file} can be read by others: chmod 600"


def main() -> None:
    """Entry point: problems of ours are a line, not a traceback."""
    try:
        app()
    except GatewayError as error:
        typer.echo(f"postgate: {error.detail}", err=True)
        sys.exit(1)
