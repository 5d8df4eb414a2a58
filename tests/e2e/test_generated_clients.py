"""The clients that `make sdk` generates do an app's daily work against a running Postgate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgate import Postgate

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "clients"
NODE = ROOT / "tests" / "node" / "node_modules"
SECONDS = 300


def _run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both clients, generated anew from the description."""
    folder = tmp_path_factory.mktemp("sdk")
    _run(ROOT / "openapi" / "generate-sdk", ROOT / "openapi" / "openapi.json", folder)
    return folder


def _python(clients: Path, base_url: str, token: str) -> str:
    return _run(sys.executable, SCRIPTS / "list_flag_send.py", base_url, token, PYTHONPATH=str(clients / "python"))


def _typescript(clients: Path, base_url: str, token: str) -> str:
    app = clients / "app"
    app.mkdir()
    (app / "node_modules").mkdir()
    (app / "node_modules" / "postgate-client").symlink_to(clients / "typescript")
    script = app / "list_flag_send.ts"
    script.write_text((SCRIPTS / script.name).read_text())
    options = (
        "--strict",
        "--target",
        "es2022",
        "--module",
        "commonjs",
        "--typeRoots",
        NODE / "@types",
        "--types",
        "node",
    )
    _run(NODE / ".bin" / "tsc", *options, script)
    return _run("node", script.with_suffix(".js"), base_url, token)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", [_python, _typescript])
def test_a_generated_client_lists_flags_and_sends(
    clients: Path, shared_postgate: Postgate, run: Callable[[Path, str, str], str]
) -> None:
    with shared_postgate.client() as api:
        order = {
            "account_ids": [shared_postgate.user()["account_id"]],
            "scopes": ["mail.read", "mail.modify", "mail.send"],
        }
        token = api.post("/v1/tokens", json=order).json()["token"]

        result: dict[str, Any] = json.loads(run(clients, shared_postgate.base_url, token))

        assert result["listed"] == 3
        assert "$flagged" in result["keywords"]
        assert result["sent"].startswith("sub_")
        assert result["again"] == result["sent"]
        assert result["problem"] == "message_not_found"
        path = f"{shared_postgate.account_path()}/submissions/{result['sent']}"
        deadline = time.monotonic() + 20
        while api.get(path).json()["status"] != "sent":
            assert time.monotonic() < deadline
            time.sleep(0.05)
