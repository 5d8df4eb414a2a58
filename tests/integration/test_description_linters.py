"""The descriptions of the API are clean under the linters that developers use."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODE = ROOT / "tests" / "node"
SECONDS = 120


def _run(*command: object) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=NODE,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "DO_NOT_TRACK": "1"},
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_redocly_finds_nothing_in_openapi_json() -> None:
    assert _run("node", "redocly_job.mjs", ROOT / "openapi" / "openapi.json") == ""


def test_spectral_finds_nothing_in_openapi_json(tmp_path: Path) -> None:
    rules = tmp_path / "spectral.yaml"
    rules.write_text('extends: ["spectral:oas"]\n')

    _run("node_modules/.bin/spectral", "lint", "-F", "hint", "-r", rules, ROOT / "openapi" / "openapi.json")


def test_the_parser_of_asyncapi_finds_nothing_in_asyncapi_yaml() -> None:
    assert _run("node", "asyncapi_job.mjs", ROOT / "openapi" / "asyncapi.yaml") == ""
