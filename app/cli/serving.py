"""`postgate serve` and `postgate demo`."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

import typer
import uvicorn

from app import telemetry
from app.cli.environment import read_settings
from app.cli.safety import mend_exposed, refuse_insecure
from app.ending import Ending
from app.loop_watch import LoopWatch
from app.settings import Settings
from app.version import VERSION

if TYPE_CHECKING:
    from app.runtime import Runtime
    from app.runtime.http_server import SayReady


PREPARE_DEMO = "prepare-demo"


def serve() -> None:
    """Start the server for production. Refuses insecure settings."""
    settings = read_settings()
    refuse_insecure(settings)

    def say_ready(port: int, runtime: Runtime) -> None:
        for line in where_it_listens(settings.bind, port, runtime.ports):
            print(line)
        print("ready", flush=True)

    _run(settings, say_ready)


def where_it_listens(bind: str, http_port: int, ports: dict[str, int]) -> Iterator[str]:
    """A line for each server. `ports` are the mail servers' ports by name."""
    host = f"[{bind}]" if ":" in bind else bind
    yield f"Postgate {VERSION} listens on:"
    yield f"  HTTP        http://{host}:{http_port}"
    for name, port in ports.items():
        yield f"  {name.upper():11} {host}:{port}"


def demo() -> None:
    """Start a demo in one process, with the domain demo.test, two users and demo mail."""
    from app import demo as demo_data

    settings = demo_data.settings_for(read_settings())
    mend_exposed(settings.data_dir)
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
    """Run `prepare-demo` in a separate process, so that this one does not keep its memory.

    The command may wait for a database. A signal that ends this process also ends that one.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    command = [sys.executable, "-P", "-m", "postgate", PREPARE_DEMO]
    result = subprocess.run(command, check=False)  # noqa: S603 - our own program
    if result.returncode:
        raise typer.Exit(result.returncode)


def prepare_demo() -> None:
    """Create the demo's users, mail and key if they are missing. Waits while the database fails."""
    from app import demo as demo_data

    settings = demo_data.settings_for(read_settings())
    telemetry.configure(settings.log_level)
    asyncio.run(demo_data.prepare(settings))


def _run(settings: Settings, say_ready: SayReady) -> None:
    telemetry.configure(settings.log_level)
    loop_factory = _loop_factory(settings)
    ending = Ending()
    with ending.on_signals(), asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(_serve(settings, say_ready, ending))
        except asyncio.CancelledError:  # a signal arrived during startup
            if not ending.is_requested:
                raise
        ending.closed()


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
    limits = limits_of(settings, shares.authenticated, shares.unauthenticated)
    with _http_port(settings) as sockets:
        waiting = partial(alive_meanwhile, settings, Connections(limits), sockets)
        async with open_when_reachable(settings, mail_connections=shares.mail, waiting=waiting) as runtime:
            application = create_api()
            application.state.services = runtime.services
            settle()
            server = HttpServer(server_config(settings, application, Connections(limits)), runtime, say_ready)
            ending.begin_with(server.end)
            await server.serve(sockets)


@contextmanager
def _http_port(settings: Settings) -> Iterator[list[socket.socket]]:
    """Bind the HTTP port. Raises DataInUse if a server of the same data directory uses it."""
    from app.db.ownership import sole_use
    from app.runtime.listening import CannotListen, bound

    with ExitStack() as stack:
        try:
            sockets = stack.enter_context(bound(settings.bind, settings.http_port, "http"))
        except CannotListen:
            with sole_use(settings):
                raise
        yield sockets


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop factory: uvloop's if it is installed, asyncio's if callbacks are to be measured."""
    if settings.debug_loop_ms is not None:
        LoopWatch(settings.debug_loop_ms).install()
        return asyncio.SelectorEventLoop
    return uvicorn.Config(app="", log_config=None).get_loop_factory()
