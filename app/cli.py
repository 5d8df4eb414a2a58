"""The command line."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar, cast

import typer
import uvicorn
from pydantic import ValidationError

from app import files, telemetry
from app.ending import Ending
from app.errors import GatewayError
from app.loop_watch import LoopWatch
from app.security.vault import MASTER_KEY_FILE
from app.settings import Settings
from app.version import VERSION

if TYPE_CHECKING:
    from app.api.deps import Services
    from app.runtime import Runtime
    from app.runtime.http_server import SayReady

T = TypeVar("T")

app = typer.Typer(
    help="Postgate: REST and WebSocket over mail servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they hold passwords
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"postgate {VERSION}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Postgate: REST and WebSocket over mail servers."""


async def _serve(settings: Settings, say_ready: SayReady, ending: Ending) -> None:
    ending.begin_with(cast("asyncio.Task[None]", asyncio.current_task()).cancel)
    from app.api.application import create_api
    from app.api.server.config import limits_of, server_config
    from app.api.server.connections import Connections
    from app.runtime.descriptors import divide, open_files
    from app.runtime.http_server import HttpServer
    from app.runtime.memory import settle
    from app.runtime.starting import alive_meanwhile, open_when_reachable

    shares = divide(open_files())
    limits = limits_of(settings, shares.members, shares.strangers)
    waiting = partial(alive_meanwhile, settings, Connections(limits))
    async with open_when_reachable(settings, mail_connections=shares.mail, waiting=waiting) as runtime:
        application = create_api()
        application.state.services = runtime.services
        settle()
        server = HttpServer(server_config(settings, application, Connections(limits)), runtime, say_ready)
        ending.begin_with(server.end)
        await server.serve()


def _run(settings: Settings, say_ready: SayReady) -> None:
    telemetry.configure(settings.log_level)
    loop_factory = _loop_factory(settings)
    ending = Ending()
    with ending.on_signals(), asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(_serve(settings, say_ready, ending))
        except asyncio.CancelledError:  # the end was asked for during the start
            if not ending.is_asked:
                raise
        ending.closed()


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the event loop: uvloop's where it is installed, asyncio's where it is to be watched."""
    if settings.debug_loop_ms is not None:
        LoopWatch(settings.debug_loop_ms).install()
        return asyncio.SelectorEventLoop
    return uvicorn.Config(app="", log_config=None).get_loop_factory()


@app.command()
def serve() -> None:
    """Run in production: no demo data; refuses insecure settings."""
    settings = _settings()
    _refuse_insecure(settings)
    _run(settings, lambda *_: print("ready", flush=True))


@app.command()
def demo() -> None:
    """Run everything in one process with the domain demo.test, two users and demo mail."""
    from app import demo as demo_data

    settings = demo_data.settings_for(_settings())
    _mend_exposed(settings.data_dir)
    if demo_data.read(settings.data_dir) is None:
        _prepare_demo()

    def say_ready(port: int, runtime: Runtime) -> None:
        facts = demo_data.read(settings.data_dir)
        assert facts is not None
        facts |= {"base_url": f"http://{settings.bind}:{port}", "ports": runtime.ports}
        path = demo_data.write(facts, settings.data_dir)
        print(demo_data.what_to_try(facts, path))
        print("ready", flush=True)

    _run(settings, say_ready)


def _prepare_demo() -> None:
    """Run `prepare-demo` in a process of its own, so that this one does not keep the memory that it takes.

    It may wait for a database. A signal that ends this process ends it too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    made = subprocess.run([sys.executable, "-P", "-m", "postgate", "prepare-demo"], check=False)
    if made.returncode:
        raise typer.Exit(made.returncode)


@app.command(hidden=True)
def prepare_demo() -> None:
    """Make what the demo shows, where it is missing. Waits while the database fails."""
    from app import demo as demo_data

    settings = demo_data.settings_for(_settings())
    telemetry.configure(settings.log_level)
    asyncio.run(demo_data.prepare(settings))


@app.command()
def openapi(folder: Path = Path("openapi")) -> None:
    """Write the API's description, openapi.json and asyncapi.yaml, from the code."""
    from app.api.application import create_api
    from app.api.openapi import write

    write(create_api(), folder)


@app.command()
def settings() -> None:
    """Print every setting as a table: docs/settings.md."""
    print("# Settings\n\nRead from the environment. Times and sizes have their unit in the name.\n")
    print("| Setting | Default | Meaning |\n|---|---|---|")
    for name, field in Settings.model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        shown = f"`{default}`" if default not in (None, "") else ""
        print(f"| `POSTGATE_{name.upper()}` | {shown} | {field.description} |")


@app.command()
def seal() -> None:
    """Seal all credentials with the newest master key: the last line of the key file, or last word of the setting."""
    accounts, apps, grants = asyncio.run(_with_services(_seal_anew))
    print(f"{accounts} accounts, {apps} OAuth apps and {grants} grants sealed anew")


async def _seal_anew(services: Services) -> tuple[int, int, int]:
    return (
        await services.accounts.seal_anew(),
        await services.oauth_apps.seal_anew(),
        await services.grants.seal_anew(),
    )


@app.command("forget-key")
def forget_key(key: Annotated[str, typer.Argument(help="Its id, 8 hexadecimal digits, as the start names it")]) -> None:
    """Forget what a master key that is lost for good has sealed, while no server runs. Owners must log in again."""
    from app.runtime import lost_keys

    try:
        key_id = bytes.fromhex(key)
    except ValueError:
        raise typer.BadParameter("The id of a key has 8 hexadecimal digits") from None
    forgotten = lost_keys.forget_key(_settings(), key_id)
    print(f"{forgotten.accounts} accounts need a new login, {forgotten.apps} OAuth apps need their client secret again")


@app.command()
def backup(target: Path) -> None:
    """Write a backup into a new folder: database and message bytes, without the master key; beside a server too."""
    from app.mailstore.backup import back_up

    made = back_up(_settings(), target)
    print(f"{made.blobs} blobs of {made.blob_bytes} bytes and the database are in {target}")
    for name in made.missing:
        typer.echo(f"postgate: blob {name} is missing from the store", err=True)


@app.command()
def restore(
    source: Annotated[Path | None, typer.Argument(help="The folder of a backup")] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="The database was put back by other means")] = False,
) -> None:
    """Put a backup back, while no server runs. Mailboxes get new UIDVALIDITYs; what was to be sent is uncertain."""
    from app.mailstore import restore as restoring

    settings = _settings()
    if (source is None) is not in_place:
        typer.echo("postgate: name the folder of a backup, or give --in-place", err=True)
        raise typer.Exit(2)
    changed = restoring.restore_in_place(settings) if source is None else restoring.restore(settings, source)
    print(
        f"{changed.accounts} accounts are restored, {changed.mailboxes} mailboxes have a new UIDVALIDITY, "
        f"{changed.uncertain} submissions may have been sent and are uncertain"
    )


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
    from app.runtime import open_runtime

    async with open_runtime(_settings(), is_serving=False) as runtime:
        return await work(runtime.services)


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
    if (path := files.exposed(settings.data_dir)) is not None:
        yield _exposed(path, settings.data_dir)


def _exposed(path: Path, data_dir: Path) -> str:
    return f"{path} can be used by others: chmod -R go= {shlex.quote(str(data_dir))}"


def _mend_exposed(data_dir: Path) -> None:
    """Close the directory of a demo to others. Exits where it holds other things than Postgate's."""
    if (path := files.exposed(data_dir)) is None:
        return
    names = {entry.name for entry in data_dir.iterdir()}
    is_shared = bool(data_dir.stat().st_mode & stat.S_ISVTX)  # /tmp
    if is_shared or (names and MASTER_KEY_FILE not in names):
        typer.echo(f"refused: {_exposed(path, data_dir)}", err=True)
        raise typer.Exit(1)
    files.close_to_others(data_dir)


def _settings() -> Settings:
    """The settings of the environment; exits with a line on each that is not valid.

    A command that reads them works on the data: whatever it writes from here on is its owner's alone.
    """
    os.umask(files.OTHERS)
    try:
        return Settings()
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            name = "_".join(str(step) for step in fault["loc"]).upper()
            typer.echo(f"postgate: POSTGATE_{name}: {fault['msg']}", err=True)
        raise typer.Exit(1) from None


def main() -> None:
    """Entry point: problems of ours are a line, not a traceback."""
    try:
        app()
    except GatewayError as error:
        _exit(error)
    except BaseExceptionGroup as group:
        errors = list(_leaves(group))
        if not all(isinstance(error, GatewayError) for error in errors):
            raise
        _exit(*errors)


def _exit(*errors: BaseException) -> NoReturn:
    for error in errors:
        typer.echo(f"postgate: {error}", err=True)
    sys.exit(1)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        yield from _leaves(error) if isinstance(error, BaseExceptionGroup) else (error,)


if __name__ == "__main__":
    main()
