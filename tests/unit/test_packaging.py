"""The ways to install Postgate agree."""

import re
from pathlib import Path

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


def test_locks_name_the_public_registries_alone() -> None:
    urls = re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text())
    urls += re.findall(r'"resolved": "https?://([^/"]+)', (ROOT / "tests/node/package-lock.json").read_text())

    assert set(urls) <= {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org"}
