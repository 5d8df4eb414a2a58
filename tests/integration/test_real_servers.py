"""The servers that other tests lean on do what those tests expect of them."""

import asyncio
import imaplib
import poplib
import smtplib
import ssl
import time

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers.dovecot import Dovecot, MailFormat
from tests.servers.postgres import Postgres
from tests.servers.smtp_sink import Phase, SmtpSink
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

        dovecot.deliver(MESSAGE, user.name)

        # an inotify push: the connection gives up waiting long before Dovecot polls after 30 s
        assert imap.readline().startswith(b"* STATUS INBOX (MESSAGES 1 ")


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


def test_dovecot_refuses_a_wrong_password(dovecot: Dovecot) -> None:
    user = dovecot.add_user()

    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as imap, pytest.raises(imaplib.IMAP4.error):
        imap.login(user.name, "wrong")


async def test_a_database_on_postgresql_is_fresh_for_each_test(empty_postgres_url: str) -> None:
    engine = create_async_engine(empty_postgres_url)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SHOW server_version_num"))).scalar_one() >= "150000"
        assert (await connection.execute(text("SELECT count(*) FROM pg_stat_user_tables"))).scalar_one() == 0
    await engine.dispose()


async def test_a_database_is_made_from_a_template_and_outlives_a_restart(postgres: Postgres) -> None:
    template = postgres.create_database()
    postgres.execute("CREATE TABLE message AS SELECT 7 AS uid", template)
    name = postgres.create_database(template)

    await asyncio.to_thread(postgres.restart)

    connection = await asyncpg.connect(postgres.url(name, driver="postgresql"))
    assert await connection.fetchval("SELECT uid FROM message") == 7
    await connection.close()


def test_the_smtp_sink_keeps_what_a_logged_in_client_sends(smtp_sink: SmtpSink, tls: TlsFiles) -> None:
    with smtplib.SMTP(smtp_sink.host, smtp_sink.port, timeout=10) as smtp:
        smtp.starttls(context=tls.client_context())
        smtp.login(smtp_sink.user, smtp_sink.password)
        smtp.sendmail("ann@mail.test", ["bob@elsewhere.test"], MESSAGE)

    [message] = smtp_sink.wait_for(1)
    assert message.content == MESSAGE
    assert (message.sender, message.recipients) == ("ann@mail.test", ["bob@elsewhere.test"])
    assert (message.user, message.is_encrypted) == ("relay", True)


def test_the_smtp_sink_wants_a_login_and_the_right_one(smtp_sink: SmtpSink, tls: TlsFiles) -> None:
    with smtplib.SMTP_SSL(smtp_sink.host, smtp_sink.tls_port, context=tls.client_context(), timeout=10) as smtp:
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            smtp.sendmail("ann@mail.test", ["bob@elsewhere.test"], MESSAGE)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login(smtp_sink.user, "wrong")


def test_the_smtp_sink_refuses_as_told(smtp_sink: SmtpSink) -> None:
    smtp_sink.requires_auth = False
    smtp_sink.replies = {"gone@elsewhere.test": "550 5.1.1 No such user"}

    with smtplib.SMTP(smtp_sink.host, smtp_sink.port, timeout=10) as smtp:
        refused = smtp.sendmail("ann@mail.test", ["bob@elsewhere.test", "gone@elsewhere.test"], MESSAGE)
        smtp_sink.replies["reply"] = "554 5.7.1 Spam"
        with pytest.raises(smtplib.SMTPDataError, match="Spam"):
            smtp.sendmail("ann@mail.test", ["bob@elsewhere.test"], MESSAGE)

    assert refused == {"gone@elsewhere.test": (550, b"5.1.1 No such user")}
    assert [message.recipients for message in smtp_sink.messages] == [["bob@elsewhere.test"]]


def test_the_smtp_sink_takes_bounces_and_addresses_beyond_ascii(smtp_sink: SmtpSink) -> None:
    smtp_sink.requires_auth = False

    with smtplib.SMTP(smtp_sink.host, smtp_sink.port, timeout=10) as smtp:
        smtp.sendmail("", ["bob@elsewhere.test"], MESSAGE)
        smtp.sendmail("ann@mail.test", ["jürgen@elsewhere.test"], MESSAGE, mail_options=["SMTPUTF8"])

    assert [(message.sender, message.recipients) for message in smtp_sink.messages] == [
        ("", ["bob@elsewhere.test"]),
        ("ann@mail.test", ["jürgen@elsewhere.test"]),
    ]


def test_the_smtp_sink_waits_as_told(smtp_sink: SmtpSink) -> None:
    smtp_sink.delays_seconds = {"reply": 0.2}
    started = time.monotonic()

    _submit(smtp_sink)

    assert time.monotonic() - started >= 0.2


def test_the_smtp_sink_can_want_tls_before_a_login(smtp_sink: SmtpSink) -> None:
    smtp_sink.requires_tls = True

    with smtplib.SMTP(smtp_sink.host, smtp_sink.port, timeout=10) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("auth")


@pytest.mark.parametrize("phase", ["connect", "ehlo", "auth", "mail", "rcpt", "data", "body", "reply"])
def test_the_smtp_sink_cuts_the_line_at_any_phase_once(smtp_sink: SmtpSink, phase: Phase) -> None:
    smtp_sink.drop(phase)

    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        _submit(smtp_sink)
    assert len(smtp_sink.messages) == (1 if phase == "reply" else 0)

    _submit(smtp_sink)


def _submit(sink: SmtpSink) -> None:
    with smtplib.SMTP(sink.host, sink.port, timeout=10) as smtp:
        smtp.login(sink.user, sink.password)
        smtp.sendmail("ann@mail.test", ["bob@elsewhere.test"], MESSAGE)
