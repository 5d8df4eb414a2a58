"""Refuses insecure settings in production, and fixes file permissions of a demo."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import typer

from app import files
from app.cli.environment import FAULT_POINT
from app.cli.outcome import FAILURE
from app.security.vault import MASTER_KEY_FILE
from app.settings import Settings


def refuse_insecure(settings: Settings) -> None:
    """Exit with a line for each insecure setting."""
    problems = list(_insecurities(settings))
    for problem in problems:
        typer.echo(f"refused: {problem}", err=True)
    if problems:
        raise typer.Exit(FAILURE)


def _insecurities(settings: Settings) -> Iterator[str]:
    if os.environ.get(FAULT_POINT):
        yield "POSTGATE_FAULT_POINT is set: the process would kill itself"
    if any(network.prefixlen == 0 for network in settings.net_allow):
        yield "POSTGATE_NET_ALLOW allows all networks, so accounts could connect to internal hosts"
    if "*" in settings.cors_origins:
        yield "POSTGATE_CORS_ORIGINS allows all web pages"
    if settings.smarthost is not None and settings.smarthost_security == "none" and settings.smarthost_password:
        yield "POSTGATE_SMARTHOST_SECURITY=none sends the smarthost's password in clear text"
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        yield "POSTGATE_TLS_CERTIFICATE and POSTGATE_TLS_KEY must be set together"
    key_file = settings.master_key_file or settings.data_dir / MASTER_KEY_FILE
    if settings.master_key is None and key_file.exists() and key_file.stat().st_mode & 0o077:
        yield f"{key_file} can be read by other users; run: chmod 600"
    if (path := files.exposed(settings.data_dir)) is not None:
        yield _exposed(path, settings.data_dir)


def _exposed(path: Path, data_dir: Path) -> str:
    return f"{path} can be accessed by other users; run: chmod -R go= {shlex.quote(str(data_dir))}"


def mend_exposed(data_dir: Path) -> None:
    """Remove other users' access to the directory of a demo. Exits if it contains other data than Postgate's."""
    if (path := files.exposed(data_dir)) is None:
        return
    names = {entry.name for entry in data_dir.iterdir()}
    is_shared = bool(data_dir.stat().st_mode & stat.S_ISVTX)  # /tmp
    if is_shared or (names and MASTER_KEY_FILE not in names):
        typer.echo(f"refused: {_exposed(path, data_dir)}", err=True)
        raise typer.Exit(FAILURE)
    files.close_to_others(data_dir)
