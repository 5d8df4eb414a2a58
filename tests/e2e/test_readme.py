"""README's commands are run as they stand, in the order in which they stand, in one shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.servers.postgate import PROGRAM, Postgate
from tests.servers.process import free_port
from tests.servers.tls import TlsFiles

pytestmark = pytest.mark.timeout(300)  # the tour is one fixture: it runs within the first test
ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r'"(\w+)":')
MARK = "-- block {} --"
SECONDS = 120


def section(title: str) -> str:
    """The text below a heading."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def blocks(title: str) -> list[tuple[str, str]]:
    """Each block of commands in a section, and the answer that is shown below it."""
    found: list[tuple[str, str]] = []
    for language, text in _BLOCK.findall(section(title)):
        if language == "sh":
            found.append((text, ""))
        else:
            found[-1] = (found[-1][0], text)
    return found


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, str]]:
    """Each block of the tour, the answer that is shown, and what it printed beside a demo."""
    folder = tmp_path_factory.mktemp("tour")
    (folder / ".venv").symlink_to(PROGRAM.parents[1])
    server = Postgate(folder)
    server.start()
    try:
        shown = blocks("Try the API")
        script = "".join(f"{text}\necho '\n{MARK.format(number)}'\n" for number, (text, _) in enumerate(shown))
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail"],
            input=script,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    printed = re.split(r"^-- block \d+ --$", done.stdout, flags=re.MULTILINE)
    return [(text, answer, output) for (text, answer), output in zip(shown, printed, strict=False)]


def output_of(tour: list[tuple[str, str, str]], command: str) -> str:
    """What the first block with this text printed."""
    return next(output for text, _, output in tour if command in text)


def test_every_block_of_the_tour_runs_and_no_call_is_refused(tour: list[tuple[str, str, str]]) -> None:
    assert len(tour) >= 10
    for text, _, output in tour:
        assert '"type":"/v1/problems/' not in output, text
        assert '"fix"' not in output, text


def test_every_answer_that_is_shown_has_the_fields_of_the_answer_that_comes(tour: list[tuple[str, str, str]]) -> None:
    answers = [(answer, output) for _, answer, output in tour if answer]

    assert len(answers) >= 4
    for answer, output in answers:
        assert [name for name in _NAME.findall(answer) if f'"{name}":' not in output] == []


def test_the_tour_shows_what_it_says(tour: list[tuple[str, str, str]]) -> None:
    assert '"subject":"Hello"' in output_of(tour, "text/event-stream")
    assert [line.split()[0] for line in output_of(tour, "websockets").split("\n") if line] == [
        "hello",
        "subscribed",
        "event",
    ]
    assert "half past three" in output_of(tour, "half past three")
    assert '"status":"queued"' in output_of(tour, "Idempotency-Key")
    assert "Subject: Hi Bob" in output_of(tour, "imap://")
    assert '"origins":["http://localhost:5173"]' in output_of(tour, "/v1/tokens")
    assert '"provider":"google"' in output_of(tour, "autoconfig")
    assert '"kind":"imap"' in output_of(tour, "autoconfig")


def test_make_run_runs_the_demo() -> None:
    [(text, _)] = blocks("Run it")
    planned = subprocess.run(
        [*text.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=True
    )

    assert "postgate demo" in planned.stdout


def test_the_commands_for_production_run(tmp_path: Path, tls: TlsFiles) -> None:
    [(text, _)] = blocks("In production")
    ports = ("HTTP", "IMAP", "POP3", "SUBMISSION", "SMTP", "LMTP")
    set_up = (
        "".join(f"export POSTGATE_{name}_PORT={free_port()}\n" for name in ports) + f"PATH={PROGRAM.parent}:$PATH\n"
    )
    for shown, here in {
        "/var/lib/postgate": str(tmp_path / "data"),
        "/etc/postgate/fullchain.pem": str(tls.good.chain),
        "/etc/postgate/key.pem": str(tls.good.key),
        "_IMAPS_PORT=993": f"_IMAPS_PORT={free_port()}",
    }.items():
        assert shown in text
        text = text.replace(shown, here)
    script = tmp_path / "script"
    script.write_text(set_up + text.replace("postgate serve", "timeout --preserve-status 15 postgate serve"))

    done = subprocess.run(
        ["bash", "-eu", script],
        input="a long password\na long password\n",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("tok_")
    assert "IMAPS" in done.stdout
    assert done.stdout.endswith("ready\n")
