"""A private Cyrus 3.6: IMAP, POP3 and LMTP on free loopback ports.

It confirms QRESYNC and CONDSTORE, tells changes in IDLE at once (idled), and has no NOTIFY. Users get INBOX, Sent,
Drafts, Trash, Junk and Archive with their roles at their first login or delivery.
"""

import imaplib
import itertools
import secrets
import shutil
import smtplib
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import ServerInFolder, ServerProcess, accepts, free_port
from tests.servers.tls import EXPIRED_ADDRESS, GOOD_ADDRESS, WRONG_HOST_ADDRESS, TlsFiles
from tests.servers.unpacked import UnpackedServer

_OWNER = "mail"
"""The system user that Cyrus runs as; Debian always has it."""
_BIN = "/usr/lib/cyrus/bin"

_IMAPD = """
configdirectory: {folder}/config
defaultpartition: default
partition-default: {folder}/spool
cyrus_user: {owner}
cyrus_group: {owner}
servername: mail.test
defaultdomain: mail.test
virtdomains: userid
unixhierarchysep: yes
altnamespace: yes
admins: cyrus
allowplaintext: yes
sasl_mech_list: PLAIN LOGIN SCRAM-SHA-256
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {folder}/config/sasldb2
tls_sessions_db_path: {folder}/config/tls_sessions.db
{certificates}
autocreate_quota: 0
autocreate_post: yes
autocreate_inbox_folders: Sent|Drafts|Trash|Junk|Archive
autocreate_subscribe_folders: Sent|Drafts|Trash|Junk|Archive
xlist-sent: Sent
xlist-drafts: Drafts
xlist-trash: Trash
xlist-junk: Junk
xlist-archive: Archive
imapidlepoll: 60
idlesocket: {folder}/run/idle
lmtpsocket: {folder}/run/lmtp
sievedir: {folder}/sieve
expunge_mode: immediate
delete_mode: immediate
duplicatesuppression: no
syslog_prefix: cyrus
failedloginpause: 0
maxlogins_per_host: {max_per_host}
"""

_MASTER = """
START {{
  recover cmd="{bin}/ctl_cyrusdb -C {config} -r"
}}
SERVICES {{
{services}
}}
DAEMON {{
  idled cmd="{bin}/idled -C {config}"
}}
"""


@dataclass(frozen=True, slots=True)
class CyrusUser:
    """A login; `name` is an address of the domain mail.test unless the test chose another."""

    name: str
    password: str


class Cyrus(ServerInFolder):
    """The server; `host` shows a good certificate, `wrong_host` and `expired_host` a bad one on the same ports."""

    host = GOOD_ADDRESS
    wrong_host = WRONG_HOST_ADDRESS
    expired_host = EXPIRED_ADDRESS

    def __init__(self, tls: TlsFiles, log: Path, *, max_per_host: int = 1_000) -> None:
        super().__init__("cyrus")
        self._folder.chmod(0o755)
        self._server = UnpackedServer("cyrus", self._folder)
        self._numbers = itertools.count(1)
        self._config, self._master = self._folder / "imapd.conf", self._folder / "cyrus.conf"
        self.imap_port, self.imaps_port = free_port(), free_port()
        self.pop3_port, self.pop3s_port = free_port(), free_port()
        self.lmtp_port = free_port()
        for name in ("config", "config/socket", "config/proc", "config/db", "spool", "sieve"):
            (self._folder / name).mkdir()
        for path in (self._server.run_folder, *self._folder.glob("config/**"), self._folder / "spool"):
            shutil.chown(path, _OWNER, _OWNER)
        self._write_config(tls, max_per_host)
        ports = [self.imap_port, self.imaps_port, self.pop3_port, self.pop3s_port, self.lmtp_port]
        self._process = ServerProcess(
            self._server.argv(f"exec {_BIN}/master -C {self._config} -M {self._master} -p /run/master.pid -D"),
            is_ready=lambda: all(map(accepts, ports)),
            log=log,
        )

    def _write_config(self, tls: TlsFiles, max_per_host: int) -> None:
        """A service by name for each address and port, and for each the certificate that it shows."""
        listeners = [
            ("imap", "imapd", self.imap_port),
            ("imaps", "imapd -s", self.imaps_port),
            ("pop3", "pop3d", self.pop3_port),
            ("pop3s", "pop3d -s", self.pop3s_port),
        ]
        services, certificates = [], []
        shown = {"good": (self.host, tls.good), "wrong": (self.wrong_host, tls.wrong_host)}
        for name, (address, certificate) in (shown | {"expired": (self.expired_host, tls.expired)}).items():
            chain, key = (self._owned(path) for path in (certificate.chain, certificate.key))
            for protocol, command, port in listeners:
                program = command.replace("d", f"d -C {self._config}", 1)
                services.append(f'  {name}{protocol} cmd="{_BIN}/{program}" listen="{address}:{port}"')
                certificates.append(f"{name}{protocol}_tls_server_cert: {chain}")
                certificates.append(f"{name}{protocol}_tls_server_key: {key}")
        services.append(f'  lmtp cmd="{_BIN}/lmtpd -C {self._config} -a" listen="{self.host}:{self.lmtp_port}"')
        self._config.write_text(
            _IMAPD.format(
                folder=self._folder, owner=_OWNER, certificates="\n".join(certificates), max_per_host=max_per_host
            )
        )
        self._master.write_text(_MASTER.format(bin=_BIN, config=self._config, services="\n".join(services)))

    def _owned(self, path: Path) -> Path:
        """A copy of a file that Cyrus may read."""
        copy = self._folder / "config" / path.name
        shutil.copy(path, copy)
        shutil.chown(copy, _OWNER, _OWNER)
        return copy

    def stop(self) -> None:
        """Stop at once, as a power cut would; Cyrus recovers its databases when it starts again."""
        self._process.kill()

    def add_user(self, name: str | None = None, password: str | None = None) -> CyrusUser:
        """Add a login; its mailboxes come with the first login, which is done here."""
        user = CyrusUser(name or f"user{next(self._numbers)}@mail.test", password or secrets.token_urlsafe(12))
        local, domain = user.name.split("@")
        database = self._folder / "config" / "sasldb2"
        argv = ["/usr/sbin/saslpasswd2", "-p", "-c", "-f", str(database), "-u", domain, local]
        self._server.call(argv, user.password.encode())
        shutil.chown(database, _OWNER, _OWNER)
        with imaplib.IMAP4(self.host, self.imap_port) as imap:
            imap.login(user.name, user.password)
        return user

    def deliver(self, message: bytes, *recipients: str, sender: str = "sender@elsewhere.test") -> None:
        """Deliver a message by LMTP; the line ends are made CRLF. Raises smtplib.SMTPException when refused."""
        with smtplib.LMTP(self.host, self.lmtp_port) as lmtp:
            refused = lmtp.sendmail(sender, list(recipients), message)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)
