"""The servers that other tests lean on do what those tests expect of them."""

import imaplib
import poplib
import ssl
import time

import pytest

from tests.servers.dovecot import Dovecot, MailFormat
from tests.servers.tls import TlsFiles

MESSAGE = b"From: ann@elsewhere.test\r\nTo: user@mail.test\r\nSubject: Invoice\r\n\r\nPay me.\r\n"


@pytest.mark.parametrize("format", ["mdbox", "maildir"])
def test_dovecot_delivers_by_lmtp_and_shows_it_by_imap(dovecot: Dovecot, format: MailFormat) -> None:
    user = dovecot.add_user(format=format)

    dovecot.deliver(MESSAGE, user.name)

    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap:
        imap.login(user.name, user.password)
        assert imap.select("INBOX") == ("OK", [b"1"])
        _, found = imap.uid("FETCH", "1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert isinstance(found[0], tuple)
        assert found[0][1] == b"Subject: Invoice\r\n\r\n"


def test_dovecot_makes_the_special_mailboxes(dovecot: Dovecot) -> None:
    user = dovecot.add_user()

    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap:
        imap.login(user.name, user.password)
        _, rows = imap.list()

    listed = b"\n".join(row for row in rows if isinstance(row, bytes))
    for name in (b"Sent", b"Drafts", b"Trash", b"Junk", b"Archive"):
        assert b"\\" + name in listed


def test_dovecot_pushes_a_delivery_to_another_mailbox_by_notify(dovecot: Dovecot) -> None:
    user = dovecot.add_user()
    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap:
        imap.login(user.name, user.password)
        imap.send(b"N1 NOTIFY SET STATUS (personal (MessageNew MessageExpunge FlagChange))\r\n")
        while not imap.readline().startswith(b"N1 OK"):
            pass
        started = time.monotonic()

        dovecot.deliver(MESSAGE, user.name)

        line = imap.readline()
        assert line.startswith(b"* STATUS INBOX (MESSAGES 1 ")
        assert time.monotonic() - started < 3  # an inotify push, not the 30 s poll


def test_dovecot_lists_by_pop3(dovecot: Dovecot) -> None:
    user = dovecot.add_user()
    dovecot.deliver(MESSAGE, user.name)

    pop3 = poplib.POP3(dovecot.host, dovecot.pop3_port, timeout=10)
    pop3.user(user.name)
    pop3.pass_(user.password)

    assert pop3.stat()[0] == 1
    pop3.quit()


def test_dovecot_offers_starttls_and_implicit_tls(dovecot: Dovecot, tls: TlsFiles) -> None:
    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap:
        assert imap.starttls(tls.client_context())[0] == "OK"
    with imaplib.IMAP4_SSL(dovecot.host, dovecot.imaps_port, ssl_context=tls.client_context(), timeout=10) as imap:
        assert imap.noop()[0] == "OK"


@pytest.mark.parametrize(
    ("host", "reason"), [(Dovecot.wrong_host, "IP address mismatch"), (Dovecot.expired_host, "certificate has expired")]
)
def test_dovecot_shows_a_bad_certificate_on_other_addresses(
    dovecot: Dovecot, tls: TlsFiles, host: str, reason: str
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        imaplib.IMAP4_SSL(host, dovecot.imaps_port, ssl_context=tls.client_context(), timeout=10)


def test_a_restart_of_dovecot_keeps_the_mail_and_the_ports(dovecot: Dovecot) -> None:
    user = dovecot.add_user()
    dovecot.deliver(MESSAGE, user.name)

    dovecot.restart()

    assert (
        dovecot.doveadm("fetch", "-u", user.name, "hdr.subject", "mailbox", "INBOX").strip() == "hdr.subject: Invoice"
    )
    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap:
        assert imap.login(user.name, user.password)[0] == "OK"


def test_dovecot_refuses_a_wrong_password_without_delay(dovecot: Dovecot) -> None:
    user = dovecot.add_user()
    started = time.monotonic()

    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap, pytest.raises(imaplib.IMAP4.error):
        imap.login(user.name, "wrong")

    assert time.monotonic() - started < 1
