"""The client of openapi-python-client passes `mypy --strict` and does an app's work.

The generator has an environment of its own, since its dependencies are not those of Postgate.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.generated import DESCRIPTION, ROOT, SCRIPTS, arguments, assert_six_calls, check_types, run
from tests.servers.postgate import Postgate
from tests.servers.process import lack

PROGRAMS = ROOT / ".tools" / "openapi-python-client" / "bin"
CONFIG = ROOT / "openapi" / "openapi-python-client.yaml"


@pytest.mark.timeout(600)
def test_the_client_of_openapi_python_client_is_strictly_typed_and_makes_the_six_calls(
    shared_postgate: Postgate, tmp_path: Path
) -> None:
    if not (PROGRAMS / "openapi-python-client").exists():
        lack("openapi-python-client is not installed: `make test` installs what the tests need")
    (tmp_path / "job.py").write_text((SCRIPTS / "openapi_python_client.py").read_text())
    where = ("--path", DESCRIPTION, "--output-path", tmp_path / "postgate_client", "--meta", "none")
    made = run(tmp_path, PROGRAMS / "openapi-python-client", "generate", "--config", CONFIG, *where)

    assert "WARNING" not in made
    check_types(tmp_path, PROGRAMS / "python", "-p", "postgate_client", "-m", "job")
    assert_six_calls(run(tmp_path, PROGRAMS / "python", "job.py", *arguments(shared_postgate)))
