"""The benchmark runs from start to end; what it measures is for people to read, and nothing here asks for a time."""

import asyncio
import json
import math
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CONTESTS = {
    "list of 50",
    "get (full), cold",
    "get (full), warm",
    "raw",
    "attachment of 1 MB",
    "set a flag",
    "search by subject",
    "search by text",
    "submit",
    "move",
    "embedded: LMTP delivery",
    "embedded: IMAP list of 50",
}


@pytest.mark.timeout(300)
async def test_a_quick_run_measures_every_job_on_both_sides(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks", "--quick", "--json", str(file), cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await run.communicate()

    assert run.returncode == 0, errors.decode()
    figures = json.loads(file.read_bytes())
    contests = {one["name"]: one["sides"] for one in figures if "sides" in one}
    assert set(contests) == CONTESTS
    for sides in contests.values():
        assert len(sides) == 2
        assert all(side["connections"]["1"]["calls"] > 0 for side in sides.values())
    lines = {one["name"]: one["value"] for one in figures if "value" in one}
    assert {
        "first sync",
        "push: 250 to frame, p50",
        "push while 100 move: frame after the line, p50",
        "memory of the whole tree, one account, after load",
        "lost by it",
    } <= set(lines)
    assert all(math.isfinite(value) for value in lines.values())
