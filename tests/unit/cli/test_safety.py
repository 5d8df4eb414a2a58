"""What the command line does to a data directory before it is used."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import typer
from app import files
from app.cli.safety import mend_exposed


def test_the_demo_closes_an_empty_directory_and_its_own_to_others(tmp_path: Path) -> None:
    for names in ((), ("master.key", "demo.json")):
        folder = tmp_path / f"data-{len(names)}"
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)

        mend_exposed(folder)

        assert files.exposed(folder) is None


@pytest.mark.parametrize(("mode", "names"), [(0o755, ["thesis.txt"]), (0o1777, []), (0o1777, ["master.key"])])
def test_the_demo_leaves_a_directory_of_others_as_it_is_and_refuses_it(
    tmp_path: Path, mode: int, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    folder.chmod(mode)

    with pytest.raises(typer.Exit):
        mend_exposed(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == mode
    assert capsys.readouterr().err == f"refused: {folder} can be accessed by other users; run: chmod -R go= {folder}\n"
