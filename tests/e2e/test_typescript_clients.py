"""Clients of TypeScript generators compile strictly with bodies of the needed fields alone, and do an app's work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.generated import DESCRIPTION, NODE, SCRIPTS, TSC, arguments, assert_six_calls, run
from tests.servers.postgate import Postgate

GENERATORS = {
    "openapi_fetch": ("openapi-typescript", DESCRIPTION, "-o", "generated.ts"),
    "hey_api": (
        *("openapi-ts", "-i", DESCRIPTION, "-o", "generated"),
        *("-p", "@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"),
    ),
    "orval": ("orval", "-i", DESCRIPTION, "-o", "generated.ts", "--client", "fetch"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_generated_client_lists_pages_gets_flags_searches_and_sends(
    name: str, shared_postgate: Postgate, tmp_path: Path
) -> None:
    generator, *options = GENERATORS[name]
    (tmp_path / "node_modules").symlink_to(NODE)
    (tmp_path / "job.ts").write_text((SCRIPTS / f"{name}.ts").read_text())
    run(tmp_path, NODE / ".bin" / str(generator), *options)
    run(tmp_path, *TSC, "--skipLibCheck", "job.ts")

    assert_six_calls(run(tmp_path, "node", "job.js", *arguments(shared_postgate)))
