"""A private mox: IMAP with NOTIFY on a free loopback port, with one account.

mox is not packaged: POSTGATE_MOX names a binary built from its source (https://www.xmox.nl). Its NOTIFY reports a
change within milliseconds, while Dovecot gathers changes for half a second.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.servers.process import ServerInFolder, ServerProcess, accepts, free_port

_INIT_SECONDS = 60
_PORT = re.compile(r"Port: (\d+)")


class Mox(ServerInFolder):
    """`mox localserve` with its own data; the account is always the same."""

    user = "mox@localhost"
    password = "moxmoxmox"

    def __init__(self, log: Path) -> None:
        super().__init__("mox")
        program, data = _program(), self._folder / "data"
        command = [program, "localserve", "-dir", str(data)]
        subprocess.run(
            [*command, "-ip", "127.0.0.1", "-initonly"], check=True, capture_output=True, timeout=_INIT_SECONDS
        )
        ports = self._choose_ports(data / "mox.conf")
        self.imap_port, self.smtp_port = ports["1143"], ports["1025"]
        self._process = ServerProcess(command, is_ready=lambda: accepts(self.imap_port), log=log)

    def _choose_ports(self, config: Path) -> dict[str, int]:
        """Replace the fixed ports of a new configuration; services that shared a port share one again."""
        text = config.read_text()
        ports = {port: free_port() for port in set(_PORT.findall(text))}
        config.write_text(_PORT.sub(lambda found: f"Port: {ports[found[1]]}", text))
        return ports


def _program() -> str:
    program = os.environ.get("POSTGATE_MOX", "")
    if not program:
        pytest.skip("POSTGATE_MOX does not name a mox binary")
    return program
