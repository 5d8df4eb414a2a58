"""A private Courier: IMAP and POP3 on free loopback ports, Maildir users.

It is as Debian sets it up: a mailbox is polled once a minute in IDLE, names are below `INBOX.`, there is neither
CONDSTORE nor MOVE nor SPECIAL-USE. Some connections from one address are allowed (`max_per_ip`), 200 if not told.
"""

import base64
import hashlib
import itertools
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import ServerInFolder, ServerProcess, accepts, free_port
from tests.servers.tls import EXPIRED_ADDRESS, GOOD_ADDRESS, WRONG_HOST_ADDRESS, Certificate, TlsFiles
from tests.servers.unpacked import UnpackedServer

MAX_PER_IP = 200
_DISK = Path("/tmp")
"""Gamin reports no changes of files below /dev, so none in /dev/shm."""
_MAIL_UID = 28_000
_COURIER_UID = 2
_ACCOUNTS = """
courier:x:2:2::/run/courier:/usr/sbin/nologin
mail{port}:x:28000:28000::/:/usr/sbin/nologin
"""
"""The owner of all mail has a name of its own: Gamin, which tells Courier of changes, runs once for each."""

_START = """
rm -rf /run/courier/authdaemon
mkdir /run/courier/authdaemon
/usr/lib/courier/courier-authlib/authdaemond &
set -a
. /etc/courier/authdaemonrc
. /etc/courier/environment
"""

_ENVIRONMENT = """
IMAP_CAPABILITY="IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE"
IMAP_CAPABILITY_TLS="$IMAP_CAPABILITY AUTH=PLAIN"
IMAP_KEYWORDS=1
IMAP_ACL=1
IMAP_IDLE_TIMEOUT={idle_seconds}
IMAP_MAILBOX_SANITY_CHECK=1
IMAP_CHECK_ALL_FOLDERS=0
IMAP_OBSOLETE_CLIENT=0
IMAP_UMASK=022
IMAP_USELOCKS=1
IMAP_ENHANCEDIDLE=0
IMAP_TRASHFOLDERNAME=Trash
IMAP_MOVE_EXPUNGE_TO_TRASH=0
IMAP_STARTTLS=YES
IMAP_TLS_REQUIRED=0
POP3AUTH=""
POP3AUTH_TLS="LOGIN PLAIN"
POP3_STARTTLS=YES
POP3_TLS_REQUIRED=0
COURIERTLS=/usr/bin/couriertls
TLS_CERTFILE=/etc/courier/server.pem
TLS_VERIFYPEER=NONE
TLS_TRUSTCERTS=/etc/ssl/certs
PATH=/usr/bin:/bin
SHELL=/bin/sh
"""


@dataclass(frozen=True, slots=True)
class CourierUser:
    """A login; `name` is an address of the domain mail.test unless the test chose another."""

    name: str
    password: str
    maildir: Path


class Courier(ServerInFolder):
    """The server; `host` shows a good certificate, `wrong_host` and `expired_host` a bad one on the same ports.

    `max_per_ip` counts for each port.
    """

    host = GOOD_ADDRESS
    wrong_host = WRONG_HOST_ADDRESS
    expired_host = EXPIRED_ADDRESS

    def __init__(self, tls: TlsFiles, log: Path, *, max_per_ip: int = MAX_PER_IP, idle_seconds: int = 60) -> None:
        super().__init__("courier", _DISK)
        self._folder.chmod(0o755)  # mail users of other uids pass through
        self._server = UnpackedServer("courier", self._folder)
        self._state = self._server.run_folder / "courier"
        self._numbers, self._deliveries = itertools.count(1), itertools.count(1)
        self._max_per_ip = max_per_ip
        self._users: list[str] = []
        self.imap_port, self.imaps_port = free_port(), free_port()
        self.pop3_port, self.pop3s_port = free_port(), free_port()
        self._write_config(tls, idle_seconds)
        self._process = ServerProcess(self._server.argv(self._script()), is_ready=self._is_ready, log=log)

    def _write_config(self, tls: TlsFiles, idle_seconds: int) -> None:
        etc = self._server.etc / "courier"
        etc.mkdir()
        self._state.mkdir()
        for name in ("userdb.dat", "userdbshadow.dat"):
            (etc / name).symlink_to(f"/run/courier/{name}")
        accounts = Path("/etc/passwd").read_text().rstrip() + _ACCOUNTS.format(port=self.imap_port)
        (self._server.etc / "passwd").write_text(accounts)
        (etc / "authdaemonrc").write_text(
            'authmodulelist="authuserdb"\nauthmodulelistorig="authuserdb"\ndaemons=3\n'
            'authdaemonvar=/run/courier/authdaemon\nDEBUG_LOGIN=0\nDEFAULTOPTIONS=""\nLOGGEROPTS=""\n'
        )
        (etc / "environment").write_text(_ENVIRONMENT.format(idle_seconds=idle_seconds))
        _write_pem(tls.good, etc / "server.pem")
        _write_pem(tls.wrong_host, etc / f"server.pem.{WRONG_HOST_ADDRESS}")
        _write_pem(tls.expired, etc / f"server.pem.{EXPIRED_ADDRESS}")
        self._write_users()

    def _script(self) -> str:
        """One listener a port, as Debian's start scripts run them; the last one is the process itself."""
        courier = "/usr/lib/courier/courier"
        imap = f"{courier}/imaplogin /usr/bin/imapd Maildir"
        pop3 = f"{courier}/courierpop3login {courier}/courierpop3d Maildir"
        tls = "/usr/bin/couriertls -server -tcpd"
        listener = f"/usr/sbin/couriertcpd -address=0 -maxprocs=400 -maxperip={self._max_per_ip} -nodnslookup"
        listener += " -noidentlookup"
        lines = [
            f"PROTOCOL=IMAP {listener} {self.imap_port} {imap} &",
            f"PROTOCOL=IMAP IMAP_TLS=1 {listener} {self.imaps_port} {tls} {imap} &",
            f"PROTOCOL=POP3 {listener} {self.pop3_port} {pop3} &",
            f"PROTOCOL=POP3 POP3_TLS=1 exec {listener} {self.pop3s_port} {tls} {pop3}",
        ]
        return _START + "\n".join(lines)

    def _is_ready(self) -> bool:
        ports = [self.imap_port, self.imaps_port, self.pop3_port, self.pop3s_port]
        return (self._state / "authdaemon" / "socket").exists() and all(map(accepts, ports))

    def stop(self) -> None:
        """Stop; sessions end without a word, as Courier's do."""
        self._process.kill()

    def add_user(self, name: str | None = None, password: str | None = None) -> CourierUser:
        """Add a login with an empty INBOX, and Sent, Drafts, Trash, Junk and Archive below it."""
        number = next(self._numbers)
        name = name or f"user{number}@mail.test"
        home = self._folder / "mail" / str(number)
        user = CourierUser(name, password or secrets.token_urlsafe(12), home / "Maildir")
        for box in (".", ".Sent", ".Drafts", ".Trash", ".Junk", ".Archive"):
            for part in ("cur", "new", "tmp"):
                (user.maildir / box / part).mkdir(parents=True)
            if box != ".":
                (user.maildir / box / "maildirfolder").touch()
        for path in (home, *home.rglob("*")):
            os.chown(path, _MAIL_UID, _MAIL_UID)
        secret = base64.b64encode(hashlib.sha1(user.password.encode()).digest()).decode()
        fields = f"uid={_MAIL_UID}|gid={_MAIL_UID}|home={home}|mail={user.maildir}|systempw={{SHA}}{secret}"
        self._users.append(f"{name}\t{fields}\n")
        self._write_users()
        return user

    def _write_users(self) -> None:
        users = self._state / "userdb"
        users.write_text("".join(self._users))
        users.chmod(0o600)
        self._server.call(["/usr/sbin/makeuserdb", "-f", "/run/courier/userdb"])

    def deliver(self, message: bytes, *users: CourierUser, mailbox: str = ".") -> None:
        """Put a message into a Maildir as a delivery agent does; `mailbox` is a folder there, as `.Sent`."""
        for user in users:
            name = f"{time.time():.6f}.{os.getpid()}_{next(self._deliveries)}.mail.test"
            passing = user.maildir / mailbox / "tmp" / name
            passing.write_bytes(message.replace(b"\r\n", b"\n"))
            os.chown(passing, _MAIL_UID, _MAIL_UID)
            passing.rename(user.maildir / mailbox / "new" / name)


def _write_pem(certificate: Certificate, path: Path) -> None:
    path.write_bytes(certificate.key.read_bytes() + certificate.chain.read_bytes())
    path.chmod(0o600)
    os.chown(path, _COURIER_UID, _COURIER_UID)
