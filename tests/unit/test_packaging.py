"""The ways to install Postgate agree."""

import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from app.cli import app as command_line
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]


def test_the_container_and_the_makefile_pin_the_same_uv() -> None:
    [container] = re.findall(r"uv==(\S+)", (ROOT / "Dockerfile").read_text())
    [makefile] = re.findall(r"^UV_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert container == makefile


def test_the_container_gets_every_file_that_its_recipe_copies() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for source in line.split()[:-1]
    }

    assert copied <= allowed


def test_the_clients_are_generated_without_root_and_without_a_mail_server() -> None:
    planned = subprocess.run(
        ["make", "--always-make", "--dry-run", "sdk"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert "openapi/generate-sdk" in planned.stdout
    assert "install-debian-packages" not in planned.stdout
    assert "java" not in (ROOT / "tests" / "debian-packages.txt").read_text()  # it comes with a Python package


def test_locks_name_the_public_registries_alone() -> None:
    urls = re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text())
    for folder in ("node", "kotlin"):
        text = (ROOT / "tests" / folder / "package-lock.json").read_text()
        urls += re.findall(r'"resolved": "https?://([^/"]+)', text)

    assert set(urls) <= {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org"}


def test_a_module_of_postgate_is_the_module_of_the_same_name_in_app() -> None:
    for name in ("settings", "mail", "mail.types"):
        assert importlib.import_module(f"postgate.{name}") is importlib.import_module(f"app.{name}")
        assert importlib.import_module(f"app.{name}").__spec__.name == f"app.{name}"  # type: ignore[union-attr]


def test_an_unknown_module_of_postgate_is_named_as_it_was_asked_for() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'postgate\.nothing'"):
        importlib.import_module("postgate.nothing")


def test_postgate_refuses_to_take_the_app_of_another_project_for_its_own(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("")
    program = "import app, postgate"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 1
    assert f"ImportError: Postgate needs its own package `app`, and {tmp_path}/app.py is loaded" in done.stderr


def test_every_place_that_shows_the_version_shows_that_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    assert CliRunner().invoke(command_line, ["--version"]).output == f"postgate {version}\n"
    assert json.loads((ROOT / "openapi" / "openapi.json").read_text())["info"]["version"] == version
    assert yaml.safe_load((ROOT / "openapi" / "asyncapi.yaml").read_text())["info"]["version"] == version
    with (ROOT / "uv.lock").open("rb") as lock:
        [locked] = [package for package in tomllib.load(lock)["package"] if package["name"] == "postgate"]
    assert locked["version"] == version
