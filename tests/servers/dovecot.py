"""A private Dovecot 2.3: IMAP, POP3 and LMTP on free loopback ports, with users of each mail format.

It needs root: users live under system uids of their own, since past 128 inotify instances a uid Dovecot polls every
30 seconds without a word. An IDLE or NOTIFY answer may be held back for up to 0.5 s.
"""

import base64
import itertools
import os
import secrets
import smtplib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.servers.process import ServerInFolder, ServerProcess, accepts, find_program, free_port, lack
from tests.servers.tls import EXPIRED_ADDRESS, GOOD_ADDRESS, WRONG_HOST_ADDRESS, TlsFiles

MailFormat = Literal["mdbox", "sdbox", "maildir"]
_UIDS = 24
_DOVEADM_SECONDS = 30

_CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {log}
instance_name = {folder}
protocols = imap pop3 lmtp
listen = {good_address}, {wrong_host_address}, {expired_address}
hostname = mail.test
postmaster_address = postmaster@mail.test

ssl = yes
ssl_cert = <{tls.good.chain}
ssl_key = <{tls.good.key}
local {wrong_host_address} {{
  ssl_cert = <{tls.wrong_host.chain}
  ssl_key = <{tls.wrong_host.key}
}}
local {expired_address} {{
  ssl_cert = <{tls.expired.chain}
  ssl_key = <{tls.expired.key}
}}

disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
{token_passdb}
passdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users/%u
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {folder}/users/%u
}}
first_valid_uid = 1000

mailbox_list_index = {list_index}
{more}
mail_max_userip_connections = {max_connections}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Sent {{
    auto = subscribe
    special_use = \\Sent
  }}
  mailbox Drafts {{
    auto = subscribe
    special_use = \\Drafts
  }}
  mailbox Trash {{
    auto = subscribe
    special_use = \\Trash
  }}
  mailbox Junk {{
    auto = subscribe
    special_use = \\Junk
  }}
  mailbox Archive {{
    auto = subscribe
    special_use = \\Archive
  }}
}}

default_client_limit = 4000
default_process_limit = 1000
service anvil {{
  # no growing delay after failed logins from one address
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service imap-login {{
  service_count = 0
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {imaps_port}
  }}
}}
service pop3-login {{
  service_count = 0
  inet_listener pop3 {{
    port = {pop3_port}
  }}
  inet_listener pop3s {{
    port = {pop3s_port}
  }}
}}
service imap {{
  process_limit = 4000
}}
service lmtp {{
  inet_listener lmtp {{
    address = {good_address}
    port = {lmtp_port}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class DovecotUser:
    """A login; `name` is an address of the domain mail.test unless the test chose another."""

    name: str
    password: str
    uid: int
    format: MailFormat


class Dovecot(ServerInFolder):
    """The server; `host` shows a good certificate, `wrong_host` and `expired_host` a bad one on the same ports.

    A user may have so many connections to a service from one address (`max_connections`).
    """

    host = GOOD_ADDRESS
    wrong_host = WRONG_HOST_ADDRESS
    expired_host = EXPIRED_ADDRESS

    def __init__(
        self,
        tls: TlsFiles,
        log: Path,
        introspection_url: str | None = None,
        *,
        max_connections: int = 5_000,
        has_list_index: bool = True,
        more: str = "",
    ) -> None:
        """With `introspection_url` it takes OAuth access tokens too, and asks there whose they are (RFC 7662).

        Without `has_list_index` its NOTIFY is refused. `more` are further lines of the configuration.
        """
        if os.geteuid() != 0:
            lack("Dovecot gives each user a system uid, and wants root for it")
        super().__init__("dovecot")
        self._folder.chmod(0o755)  # mail users of other uids pass through
        self._config = self._folder / "dovecot.conf"
        self._numbers = itertools.count(1)
        self._first_uid = 30_000 + _UIDS * (os.getpid() % 1_000)
        self.imap_port, self.imaps_port = free_port(), free_port()
        self.pop3_port, self.pop3s_port = free_port(), free_port()
        self.lmtp_port = free_port()
        list_index = "yes" if has_list_index else "no"
        self._write_config(
            tls, log, introspection_url, max_connections=max_connections, list_index=list_index, more=more
        )
        (self._folder / "users").mkdir()
        self._process = ServerProcess(
            [find_program("dovecot"), "-F", "-c", str(self._config)],
            is_ready=lambda: all(map(accepts, [self.imap_port, self.imaps_port, self.pop3s_port, self.lmtp_port])),
            log=log,
        )

    def _write_config(self, tls: TlsFiles, log: Path, introspection_url: str | None, **settings: object) -> None:
        ports = {name: value for name, value in vars(self).items() if name.endswith("_port")}
        text = _CONFIG.format(
            folder=self._folder,
            log=log,
            tls=tls,
            good_address=GOOD_ADDRESS,
            wrong_host_address=WRONG_HOST_ADDRESS,
            expired_address=EXPIRED_ADDRESS,
            mechanisms="plain login scram-sha-256" + (" oauthbearer xoauth2" if introspection_url else ""),
            token_passdb=self._token_passdb(introspection_url) if introspection_url else "",
            **ports,
            **settings,
        )
        self._config.write_text(text)

    def _token_passdb(self, introspection_url: str) -> str:
        settings = self._folder / "oauth2.conf"
        settings.write_text(
            f"introspection_mode = post\nintrospection_url = {introspection_url}\nusername_attribute = username\n"
            "active_attribute = active\nactive_value = true\n"
        )
        return f"passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = {settings}\n}}"

    def add_user(
        self,
        name: str | None = None,
        password: str | None = None,
        *,
        uid: int | None = None,
        format: MailFormat = "mdbox",
    ) -> DovecotUser:
        """Add a login with empty mailboxes; Dovecot sees it at once. Uids are taken in turn."""
        number = next(self._numbers)
        user = DovecotUser(
            name=name or f"user{number}@mail.test",
            password=password or secrets.token_urlsafe(12),
            uid=uid or self._first_uid + number % _UIDS,
            format=format,
        )
        home = self._folder / "mail" / str(number)
        home.mkdir(parents=True)
        os.chown(home, user.uid, user.uid)
        secret = base64.b64encode(user.password.encode()).decode()
        fields = [user.name, f"{{PLAIN.b64}}{secret}", str(user.uid), str(user.uid), "", str(home), ""]
        # a file for each user: Dovecot looks at a shared one once a second, and would not know a user just added
        (self._folder / "users" / user.name).write_text(":".join([*fields, f"userdb_mail={format}:~/{format}"]) + "\n")
        return user

    def deliver(self, message: bytes, *recipients: str, sender: str = "sender@elsewhere.test") -> None:
        """Deliver a message by LMTP; the line ends are made CRLF. Raises smtplib.SMTPException when refused."""
        with smtplib.LMTP(self.host, self.lmtp_port) as lmtp:
            refused = lmtp.sendmail(sender, list(recipients), message)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)

    def doveadm(self, *arguments: str) -> str:
        """Run doveadm on this server, as in `doveadm("expunge", "-u", user.name, "mailbox", "INBOX", "all")`."""
        argv = [find_program("doveadm"), "-c", str(self._config), *arguments]
        try:
            done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_DOVEADM_SECONDS)
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr)
            raise
        return done.stdout
