"""Submission at a real SMTP server that misbehaves on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from app.backends.smtp import SmtpSubmission
from app.errors import (
    AddressNotAllowed,
    CertificateRefused,
    InvalidRequest,
    LoginRefused,
    MailServerError,
    ServerProtocolError,
    TimedOut,
    Unreachable,
)
from app.mail.backend import OutgoingMail, RecipientResult, Verdict
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.servers.process import free_port
from tests.servers.smtp_sink import Phase, SmtpSink
from tests.servers.tls import TlsFiles

LOOPBACK = NetGuard.of(["127.0.0.0/8"])
CONTENT = b"Subject: Hi\r\n\r\nHello\r\n.dot\r\n..two\r\n.\r\nend\r\n"
MAIL = OutgoingMail("ann@demo.test", ("bob@there.test",), CONTENT)

Connect = Callable[..., SmtpSubmission]


@pytest.fixture
async def connect(smtp_sink: SmtpSink, tls: TlsFiles) -> AsyncIterator[Connect]:
    """Makes a Submission at the sink: TLS from the first byte, unless told otherwise."""
    made: list[SmtpSubmission] = []

    def submission(guard: NetGuard = LOOPBACK, **changes: object) -> SmtpSubmission:
        server = ServerLogin(
            smtp_sink.host, smtp_sink.tls_port, TransportSecurity.TLS, smtp_sink.user, smtp_sink.password
        )
        server = replace(server, **changes)  # type: ignore[arg-type]
        made.append(SmtpSubmission(server, guard, tls.client_context(), "gateway.test"))
        return made[-1]

    yield submission
    for one in made:
        one.close()
    await asyncio.sleep(0.01)


def verdicts(results: list[RecipientResult]) -> list[tuple[str, Verdict, str | None]]:
    return [(one.address, one.verdict, one.enhanced_code) for one in results]


@pytest.mark.parametrize("security", list(TransportSecurity))
async def test_a_message_arrives_whole_by_every_kind_of_transport(
    smtp_sink: SmtpSink, connect: Connect, security: TransportSecurity
) -> None:
    port = smtp_sink.tls_port if security is TransportSecurity.TLS else smtp_sink.port

    results = await connect(security=security, port=port).send(MAIL)

    assert verdicts(results) == [("bob@there.test", Verdict.ACCEPTED, "2.0.0")]
    (message,) = smtp_sink.messages
    assert message.content == CONTENT
    assert (message.sender, message.recipients, message.user) == ("ann@demo.test", ["bob@there.test"], "relay")
    assert message.is_encrypted is (security is not TransportSecurity.NONE)


async def test_the_next_message_goes_through_the_same_connection(smtp_sink: SmtpSink, connect: Connect) -> None:
    submission = connect()

    for _ in range(3):
        await submission.send(MAIL)

    assert len(smtp_sink.messages) == 3
    assert len(smtp_sink._connections) == 1


async def test_a_connection_that_died_while_it_waited_costs_nothing(smtp_sink: SmtpSink, connect: Connect) -> None:
    submission = connect()
    await submission.send(MAIL)
    smtp_sink.drop("mail")

    results = await submission.send(MAIL)

    assert [one.verdict for one in results] == [Verdict.ACCEPTED]
    assert len(smtp_sink.messages) == 2


async def test_each_recipient_has_its_own_result(smtp_sink: SmtpSink, connect: Connect) -> None:
    smtp_sink.replies = {
        "nobody@there.test": "550 5.1.1 No such user",
        "full@there.test": "452 4.2.2 Mailbox full",
        "many@there.test": "552 Too many recipients",
        "plain@there.test": "550 Never heard of",
    }
    recipients = ("bob@there.test", *smtp_sink.replies, "not an address", "amy@there.test")

    results = await connect().send(replace(MAIL, recipients=recipients))

    assert verdicts(results) == [
        ("bob@there.test", Verdict.ACCEPTED, "2.0.0"),
        ("nobody@there.test", Verdict.REFUSED, "5.1.1"),
        ("full@there.test", Verdict.DEFERRED, "4.2.2"),
        ("many@there.test", Verdict.DEFERRED, None),
        ("plain@there.test", Verdict.REFUSED, None),
        ("not an address", Verdict.REFUSED, "5.1.3"),
        ("amy@there.test", Verdict.ACCEPTED, "2.0.0"),
    ]
    assert results[1].response == "No such user"
    assert results[4].response == "550 Never heard of"
    assert smtp_sink.messages[0].recipients == ["bob@there.test", "amy@there.test"]


@pytest.mark.parametrize(
    ("phase", "reply", "verdict"),
    [
        ("mail", "451 4.3.0 Later", Verdict.DEFERRED),
        ("mail", "550 5.7.1 Not you", Verdict.REFUSED),
        ("data", "451 4.3.0 Later", Verdict.DEFERRED),
        ("data", "554 5.5.1 No", Verdict.REFUSED),
        ("reply", "452 4.3.1 Disk full", Verdict.DEFERRED),
        ("reply", "554 5.6.0 Spam", Verdict.REFUSED),
    ],
)
async def test_what_the_server_refuses_is_deferred_or_refused_and_the_connection_lives(
    smtp_sink: SmtpSink, connect: Connect, phase: Phase, reply: str, verdict: Verdict
) -> None:
    submission = connect()
    smtp_sink.replies = {phase: reply}

    results = await submission.send(MAIL)

    assert [one.verdict for one in results] == [verdict]
    smtp_sink.replies = {}
    assert [one.verdict for one in await submission.send(MAIL)] == [Verdict.ACCEPTED]
    assert len(smtp_sink.messages) == 1
    assert len(smtp_sink._connections) == 1


@pytest.mark.parametrize("phase", ["connect", "ehlo", "auth", "mail", "rcpt", "data", "body"])
async def test_a_line_cut_before_the_final_dot_hands_nothing_over(
    smtp_sink: SmtpSink, connect: Connect, phase: Phase
) -> None:
    smtp_sink.drop(phase)
    content = CONTENT + b"x" * 70 + b"\r\n" + (b"y" * 98 + b"\r\n") * 200_000  # more than the socket holds

    with pytest.raises(Unreachable):
        await connect().send(replace(MAIL, content=content))

    assert smtp_sink.messages == []


async def test_a_line_cut_after_the_final_dot_leaves_it_uncertain(smtp_sink: SmtpSink, connect: Connect) -> None:
    smtp_sink.drop("reply")
    smtp_sink.replies = {"nobody@there.test": "550 5.1.1 No such user"}

    results = await connect().send(replace(MAIL, recipients=("bob@there.test", "nobody@there.test")))

    assert [one.verdict for one in results] == [Verdict.UNCERTAIN, Verdict.REFUSED]


async def test_what_is_recorded_before_the_message_goes_is_recorded_once_and_only_when_it_goes(
    smtp_sink: SmtpSink, connect: Connect
) -> None:
    recorded: list[int] = []

    async def record() -> None:
        recorded.append(len(smtp_sink.messages))

    submission = connect()
    smtp_sink.replies = {"bob@there.test": "550 5.1.1 No such user"}
    await submission.send(MAIL, record)
    assert recorded == []
    smtp_sink.replies = {}
    await submission.send(MAIL, record)

    assert recorded == [0]


async def test_a_wrong_password_is_a_refused_login(connect: Connect) -> None:
    with pytest.raises(LoginRefused) as refused:
        await connect(password="wrong").send(MAIL)

    assert refused.value.origin is not None
    assert refused.value.origin.enhanced_code == "5.7.8"


@pytest.mark.parametrize("security", [TransportSecurity.TLS, TransportSecurity.STARTTLS])
@pytest.mark.parametrize("host", [SmtpSink.wrong_host, SmtpSink.expired_host])
async def test_a_wrong_certificate_ends_it_before_the_password(
    smtp_sink: SmtpSink, connect: Connect, security: TransportSecurity, host: str
) -> None:
    port = smtp_sink.tls_port if security is TransportSecurity.TLS else smtp_sink.port

    with pytest.raises(CertificateRefused):
        await connect(host=host, security=security, port=port).verify()


async def test_a_port_where_nobody_listens_is_unreachable(connect: Connect) -> None:
    with pytest.raises(Unreachable):
        await connect(port=free_port()).verify()


async def test_plain_text_on_a_tls_port_and_tls_on_a_plain_one_are_said_soon(
    smtp_sink: SmtpSink, connect: Connect
) -> None:
    async with asyncio.timeout(5):
        with pytest.raises(Unreachable):
            await connect(port=smtp_sink.port).verify()


async def test_an_address_that_may_not_be_reached_gets_no_connection(smtp_sink: SmtpSink, connect: Connect) -> None:
    with pytest.raises(AddressNotAllowed):
        await connect(guard=NetGuard()).verify()

    assert not smtp_sink._connections


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n.\n\r\n", b"a\r\n\r.\r\n"])
async def test_no_bare_line_end_ever_leaves(smtp_sink: SmtpSink, connect: Connect, content: bytes) -> None:
    """Smuggling, out."""
    with pytest.raises(InvalidRequest):
        await connect().send(replace(MAIL, content=content))

    assert not smtp_sink._connections


@pytest.mark.parametrize(
    "address",
    ["bob@there.test>\r\nRCPT TO:<eve@there.test", "bob@there.test> SIZE=1", "a\0b@there.test", '"a"<b"@there.test'],
)
async def test_no_command_hides_in_an_address(smtp_sink: SmtpSink, connect: Connect, address: str) -> None:
    """Command injection, as client."""
    submission = connect()

    as_recipient = await submission.send(replace(MAIL, recipients=(address,)))
    as_sender = await submission.send(replace(MAIL, sender=address))

    assert verdicts(as_recipient) == [(address, Verdict.REFUSED, "5.1.3")]
    assert verdicts(as_sender) == [("bob@there.test", Verdict.REFUSED, "5.1.7")]
    assert not smtp_sink._connections


async def test_addresses_beyond_ascii_go_with_smtputf8(smtp_sink: SmtpSink, connect: Connect) -> None:
    mail = replace(MAIL, recipients=("jürgen@there.test",), needs_smtputf8=True)

    results = await connect().send(mail)

    assert [one.verdict for one in results] == [Verdict.ACCEPTED]
    assert smtp_sink.messages[0].recipients == ["jürgen@there.test"]
    assert "SMTPUTF8" in smtp_sink.messages[0].mail_options


async def serve(script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> asyncio.Server:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)  # type: ignore[misc]
        finally:
            writer.close()

    return await asyncio.start_server(client, "127.0.0.1", 0)


async def test_an_answer_that_is_no_smtp_is_a_protocol_error(connect: Connect) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n")
        await writer.drain()

    async with await serve(script) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServerProtocolError):
            await connect(port=port, security=TransportSecurity.NONE).verify()


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ({"MAIL": "251 fine", "RCPT": "252 cannot say, will try"}, Verdict.ACCEPTED),
        ({"RCPT": "299 fine", "end": "251 queued"}, Verdict.ACCEPTED),
        ({"RCPT": "250-two\r\n250 lines"}, Verdict.ACCEPTED),
        ({"DATA": "250 taken"}, Verdict.DEFERRED),
        ({"RCPT": "354 go on"}, Verdict.DEFERRED),
    ],
)
async def test_any_2yz_is_a_yes_and_nothing_is_sent_without_its_content(
    connect: Connect, answers: dict[str, str], verdict: Verdict
) -> None:
    contents: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        while line := await reader.readline():
            verb = line[:4].decode().strip().upper()
            answer = answers.get(verb, "354 go on" if verb == "DATA" else "250 fine")
            writer.write(answer.encode() + b"\r\n")
            if answer.startswith("354") and verb == "DATA":
                contents.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(answers.get("end", "250 queued").encode() + b"\r\n")

    async with await serve(script) as server:
        port = server.sockets[0].getsockname()[1]
        submission = connect(port=port, security=TransportSecurity.NONE, username="")
        results = await submission.send(MAIL)
        submission.close()

    assert [one.verdict for one in results] == [verdict]
    assert len(contents) == (verdict is Verdict.ACCEPTED)


async def test_starttls_that_is_not_offered_never_falls_back_to_plain_text(connect: Connect) -> None:
    heard: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        heard.append(await reader.readline())
        writer.write(b"250-hello\r\n250 AUTH PLAIN\r\n")
        heard.append(await reader.read())

    async with await serve(script) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="STARTTLS"):
            await connect(port=port, security=TransportSecurity.STARTTLS).verify()
        await asyncio.sleep(0.05)

    assert heard == [b"EHLO gateway.test\r\n", b""]


async def test_a_server_that_says_nothing_times_out(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.backends.smtp_connection.CONNECT_TIMEOUT_SECONDS", 0.2)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with await serve(script) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TimedOut) as timed_out:
            await connect(port=port, security=TransportSecurity.NONE).verify()

    assert isinstance(timed_out.value, MailServerError)
