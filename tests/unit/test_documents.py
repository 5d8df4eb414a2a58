"""What is documented is what is there."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from app.cli import app as command_line
from app.settings import Settings
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]


def test_the_settings_page_is_what_the_settings_say() -> None:
    printed = CliRunner().invoke(command_line, ["settings"]).output

    assert (ROOT / "docs" / "settings.md").read_text() == printed


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_decision_has_a_number_of_its_own() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))

    assert [name[:4] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]


def test_the_package_its_lock_the_apis_and_the_changelog_have_one_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    locked = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    released = re.findall(r"^## \[([0-9.]+)\] - \d{4}-\d{2}-\d{2}$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert locked["postgate"]["version"] == version
    assert json.loads((ROOT / "openapi" / "openapi.json").read_text())["info"]["version"] == version
    assert yaml.safe_load((ROOT / "openapi" / "asyncapi.yaml").read_text())["info"]["version"] == version
    assert released[0] == version


@pytest.mark.parametrize(("page", "least"), [("security.md", 50), ("promises.md", 40)])
def test_every_test_that_is_named_for_an_attack_or_a_promise_exists(page: str, least: int) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text()))
    written = {
        match for path in (ROOT / "tests").rglob("*.py") for match in re.findall(r"def (test_\w+)\(", path.read_text())
    }

    assert len(named) > least
    assert named - written == set()
