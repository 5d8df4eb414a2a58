"""Mail servers that Debian does not install beside Dovecot: unpacked, and seen at their places by themselves alone.

Their programs have absolute paths compiled in. Each server runs in a mount namespace of its own, where /usr is the
system's with the server's files on top, /etc and /run likewise; nothing outside sees it. All its processes end with
the first one. That wants root.
"""

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers.process import find_program, lack

_FOLDER = Path(__file__).parents[2] / ".tools" / "servers"
_COMMAND_SECONDS = 30


class UnpackedServer:
    """The files of one server, over them a private `etc` and `run` in `folder`."""

    def __init__(self, name: str, folder: Path) -> None:
        if os.geteuid() != 0:
            lack(f"{name} runs in a mount namespace of its own, and wants root for it")
        self._usr = _FOLDER / name / "usr"
        if not self._usr.exists():
            lack(f"{name} is not unpacked: `make test` installs what the tests need")
        self.etc, self.run_folder = folder / "etc", folder / "run"
        self.etc.mkdir()
        self.run_folder.mkdir()

    def argv(self, script: str) -> list[str]:
        """How to run a shell script among the server's files; it becomes what it runs at last by `exec`."""
        mounts = [
            f"mount -t overlay overlay -o lowerdir={shlex.quote(str(self._usr))}:/usr /usr",
            f"mount -t overlay overlay -o lowerdir={shlex.quote(str(self.etc))}:/etc /etc",
            f"mount --bind {shlex.quote(str(self.run_folder))} /run",
        ]
        namespaces = ["--mount", "--pid", "--fork", "--kill-child"]
        return [find_program("unshare"), *namespaces, "--", "/bin/sh", "-ec", "\n".join([*mounts, script])]

    def call(self, argv: Sequence[str], stdin: bytes = b"") -> bytes:
        """Run one of the server's programs to its end, and return what it printed."""
        try:
            done = subprocess.run(
                self.argv("exec " + shlex.join(argv)),
                check=True, input=stdin, capture_output=True, timeout=_COMMAND_SECONDS,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr.decode(errors="replace"))
            raise
        return done.stdout
