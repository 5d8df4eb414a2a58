"""The clients that `make sdk` generates do an app's daily work against a running Postgate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.generated import DESCRIPTION, ROOT, SCRIPTS, TSC, arguments, assert_six_calls, check_types, run
from tests.servers.postgate import Postgate


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both clients, generated anew from the description."""
    folder = tmp_path_factory.mktemp("sdk")
    run(ROOT, ROOT / "openapi" / "generate-sdk", DESCRIPTION, folder)
    return folder


def _python(clients: Path, base_url: str, token: str) -> str:
    folder = clients / "python"
    (folder / "job.py").write_text((SCRIPTS / "openapi_generator.py").read_text())
    check_types(folder, sys.executable, "--follow-imports", "silent", "job.py", plugins="pydantic.mypy")
    return run(folder, sys.executable, "job.py", base_url, token)


def _typescript(clients: Path, base_url: str, token: str) -> str:
    app = clients / "app"
    (app / "node_modules").mkdir(parents=True)
    (app / "node_modules" / "postgate-client").symlink_to(clients / "typescript")
    (app / "job.ts").write_text((SCRIPTS / "openapi_generator.ts").read_text())
    run(app, *TSC, "job.ts")
    return run(app, "node", "job.js", base_url, token)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", [_python, _typescript])
def test_a_client_of_make_sdk_lists_pages_gets_flags_searches_and_sends(
    clients: Path, shared_postgate: Postgate, program: Callable[[Path, str, str], str]
) -> None:
    assert_six_calls(program(clients, *arguments(shared_postgate)))
