"""Clients of TypeScript generators compile strictly with bodies of the needed fields alone, and do an app's work."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.servers.postgate import Postgate

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "clients"
NODE = ROOT / "tests" / "node" / "node_modules"
DESCRIPTION = ROOT / "openapi" / "openapi.json"
STRICT = ("--strict", "--target", "es2022", "--module", "commonjs", "--moduleResolution", "node10", "--skipLibCheck")
GENERATORS = {
    "openapi_fetch": ("openapi-typescript", DESCRIPTION, "-o", "generated.ts"),
    "hey_api": (
        *("openapi-ts", "-i", DESCRIPTION, "-o", "generated"),
        *("-p", "@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"),
    ),
}
SECONDS = 300


def _run(folder: Path, *command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=os.environ | {"DO_NOT_TRACK": "1"},
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_generated_client_lists_pages_gets_flags_searches_and_sends(
    name: str, shared_postgate: Postgate, tmp_path: Path
) -> None:
    generator, *options = GENERATORS[name]
    (tmp_path / "node_modules").symlink_to(NODE)
    (tmp_path / "job.ts").write_text((SCRIPTS / f"{name}.ts").read_text())
    _run(tmp_path, NODE / ".bin" / str(generator), *options)
    _run(tmp_path, NODE / ".bin" / "tsc", *STRICT, "--types", "node", "job.ts")
    rights = {
        "account_ids": [shared_postgate.user()["account_id"]],
        "scopes": ["mail.read", "mail.modify", "mail.send"],
    }
    with shared_postgate.client() as api:
        token = api.post("/v1/tokens", json=rights).json()["token"]

    result = json.loads(_run(tmp_path, "node", "job.js", shared_postgate.base_url, token))

    assert (result["listed"], result["paged"], result["text"]) == (3, 3, True)
    assert "$flagged" in result["keywords"]
    assert result["found"] > 0
    assert result["sent"].startswith("sub_")
    assert result["again"] == result["sent"]
    assert result["problem"] == "message_not_found"
