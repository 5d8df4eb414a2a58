"""The wheel, installed into an environment of its own, runs from a folder that has packages of the same names."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.servers.postgate import Postgate
from tests.servers.process import ServerProcess, free_port

ROOT = Path(__file__).parents[2]
UV = ROOT / ".tools" / "uv" / "bin" / "uv"
SECONDS = 300
FOREIGN = "raise SystemExit('the wrong package was imported')\n"


def run(*command: object, folder: Path | None = None) -> str:
    """What a command prints; it runs in a folder, or in the working directory."""
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, timeout=SECONDS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a fresh environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ("build", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder)
    run(UV, *build, folder=ROOT)
    export = ("export", "--frozen", "--no-dev", "--no-emit-project", "--no-hashes", "--output-file", folder / "locked")
    run(UV, *export, folder=ROOT)
    run(UV, "venv", "--python", sys.executable, folder / "venv")
    [wheel] = folder.glob("postgate-*.whl")
    run(UV, "pip", "install", "--python", folder / "venv", "--constraints", folder / "locked", wheel)
    return folder / "venv" / "bin"


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a project of somebody else, whose package `app` is on PYTHONPATH too."""
    for name in ("app", "alembic", "library/app"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text(FOREIGN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    return tmp_path


def newest_mail(server: Postgate) -> dict[str, Any]:
    """The newest message of the account, with its text."""
    with server.client() as client:
        [newest] = client.get(f"{server.account_path()}/messages", params={"limit": 1}).json()["items"]
        full: dict[str, Any] = client.get(
            f"{server.account_path()}/messages/{newest['id']}", params={"view": "full"}
        ).json()
    return full


@pytest.mark.timeout(600)
def test_the_installed_wheel_runs_the_demo_from_the_folder_of_another_project(programs: Path, foreign: Path) -> None:
    server = Postgate(foreign)
    server.program = programs / "postgate"
    server.start()
    try:
        server.deliver(b"From: ann@example.com\r\nSubject: A long letter\r\n\r\n" + b"A line of it.\r\n" * 10_000)
        newest = newest_mail(server)
    finally:
        server.stop()

    assert newest["subject"] == "A long letter"
    assert "A line of it." in newest["text"]  # read by a parsing process


def test_the_installed_wheel_serves_from_the_folder_of_another_project(programs: Path, foreign: Path) -> None:
    ports = {name: free_port() for name in ("HTTP", "IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")}
    settings = {f"POSTGATE_{name}_PORT": str(port) for name, port in ports.items()}
    settings |= {"POSTGATE_DOMAINS": "example.org", "POSTGATE_DATA_DIR": str(foreign / "data")}
    command = ("/usr/bin/env", *(f"{name}={value}" for name, value in settings.items()), programs / "postgate")
    key = run(*command, "token", "create").split()[1]
    account_id = run(*command, "mailbox", "add", "ann@example.org", "--password", "a long password").strip()
    log = foreign / "serve.log"
    server = ServerProcess(
        [str(word) for word in (*command, "serve")],
        is_ready=lambda: log.exists() and log.read_text().endswith("ready\n"),
        log=log,
    )
    server.start()
    try:
        with smtplib.SMTP("127.0.0.1", ports["SMTP"], timeout=SECONDS) as connection:
            connection.sendmail("bob@example.com", ["ann@example.org"], "Subject: Served\r\n\r\nHello\r\n")
        url = f"http://127.0.0.1:{ports['HTTP']}/v1/accounts/{account_id}/messages"
        listed = httpx2.get(url, headers={"Authorization": f"Bearer {key}"}).json()["items"]
    finally:
        server.stop()

    assert [message["subject"] for message in listed] == ["Served"]


@pytest.mark.usefixtures("foreign")
def test_the_installed_wheel_runs_as_a_module(programs: Path) -> None:
    printed = run(programs / "python", "-m", "postgate", "--version")

    assert printed.split() == ["postgate", version("postgate")]
