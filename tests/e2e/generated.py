"""Programs that use generated clients: they compile, run against a Postgate, and print what their calls answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.servers.postgate import Postgate

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "clients"
NODE = ROOT / "tests" / "node" / "node_modules"
DESCRIPTION = ROOT / "openapi" / "openapi.json"
TSC = (
    *(NODE / ".bin" / "tsc", "--strict", "--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10"),
    *("--typeRoots", NODE / "@types", "--types", "node"),
)
SECONDS = 600


def run(folder: Path, *command: object, **environment: str) -> str:
    """Run a command in a folder and return what it printed; it must succeed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=os.environ | {"DO_NOT_TRACK": "1"} | environment,
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def check_types(folder: Path, interpreter: str | Path, *wanted: str, plugins: str = "") -> None:
    """Check Python code of a folder with `mypy --strict`, with the packages of an interpreter."""
    (folder / "mypy.ini").write_text(f"[mypy]\nplugins = {plugins}\n")
    mypy = (sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini")
    run(folder, *mypy, "--python-executable", interpreter, *wanted)


def arguments(postgate: Postgate) -> tuple[str, str]:
    """What every program takes: the base URL, and a token of one account."""
    rights = {"account_ids": [postgate.user()["account_id"]], "scopes": ["mail.read", "mail.modify", "mail.send"]}
    with postgate.client() as api:
        return postgate.base_url, api.post("/v1/tokens", json=rights).json()["token"]


def assert_six_calls(printed: str) -> None:
    """The calls of a program listed, paged, got, flagged, searched and sent; a repeated send sent once."""
    result = json.loads(printed)
    assert (result["listed"], result["paged"], result["text"]) == (3, 3, True)
    assert "$flagged" in result["keywords"]
    assert result["found"] > 0
    assert result["sent"].startswith("sub_")
    assert result["again"] == result["sent"]
    assert result["problem"] == "message_not_found"
