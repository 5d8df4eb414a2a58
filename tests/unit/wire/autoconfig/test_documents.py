"""Documents that tell mail servers: those of real shapes are read, all others end in nothing or in an error of ours."""

from __future__ import annotations

import pytest
from app.errors import ServerProtocolError
from app.mail.offers import Auth, Offer, Protocol, filled
from app.mail.types import TransportSecurity
from app.wire.autoconfig import autodiscover
from app.wire.autoconfig.ispdb import read_config
from app.wire.autoconfig.xml import MAX_BYTES, read_xml
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import at_most_cpu_seconds

SERVER = """<incomingServer type="{type}"><hostname>{host}</hostname><port>{port}</port>
<socketType>{security}</socketType><username>{username}</username>{auth}</incomingServer>"""


def server(**other: str) -> str:
    facts = {"type": "imap", "host": "imap.x.test", "port": "993", "security": "SSL", "username": "%EMAILADDRESS%"}
    return SERVER.format(**{**facts, "auth": "", **other})


def document(*servers: str) -> bytes:
    return f"<clientConfig version='1.1'><emailProvider>{''.join(servers)}</emailProvider></clientConfig>".encode()


def offers_of(*servers: str, email: str = "ann@x.test") -> tuple[Offer, ...]:
    return filled(read_config(document(*servers)), email)


def test_a_server_is_read_with_what_it_takes() -> None:
    auth = "<authentication>OAuth2</authentication><authentication>password-encrypted</authentication>"

    assert offers_of(server(auth=auth)) == (
        Offer(Protocol.IMAP, "imap.x.test", 993, TransportSecurity.TLS, "ann@x.test", (Auth.OAUTH2, Auth.PASSWORD)),
    )


@pytest.mark.parametrize(
    ("username", "filled_in"),
    [
        ("%EMAILADDRESS%", "ann@x.test"),
        ("%EMAILLOCALPART%", "ann"),
        ("x\\%EMAILLOCALPART%.%EMAILDOMAIN%", "x\\ann.x.test"),
    ],
)
def test_placeholders_stand_for_the_address_and_its_halves(username: str, filled_in: str) -> None:
    [found] = offers_of(server(username=username))
    assert found.username == filled_in


def test_a_host_may_hold_a_placeholder() -> None:
    [found] = offers_of(server(host="mail.%EMAILDOMAIN%"))
    assert found.host == "mail.x.test"


@pytest.mark.parametrize(
    "spoilt",
    [
        {"port": "0"}, {"port": "65536"}, {"port": "99999999999999"}, {"port": "²"}, {"port": ""}, {"host": ""},
        {"host": "a b"}, {"host": "a/../b"}, {"host": "%REALHOST%"}, {"host": "x" * 254}, {"host": "-a.test"},
        {"security": "none"}, {"security": ""}, {"type": "exchange"}, {"username": "%ASKED%"}, {"username": "a&#13;b"},
        {"auth": "<authentication>GSSAPI</authentication>"}, {"auth": "<authentication>none</authentication>"},
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_left_out(spoilt: dict[str, str]) -> None:
    assert offers_of(server(**spoilt)) == ()


def test_encrypted_servers_come_first_and_each_once() -> None:
    plain, tls = server(port="143", security="plain"), server()

    assert [one.port for one in offers_of(plain, tls, tls)] == [993, 143]


def test_no_source_floods_the_answer() -> None:
    many = [server(host=f"h{number}.x.test") for number in range(300)]

    assert len(offers_of(*many)) == 12


def test_outlooks_answer_is_read_by_its_encryption_or_its_ports() -> None:
    def protocol(kind: str, extra: str) -> str:
        return f"<Protocol><Type>{kind}</Type><Server>ex.x.test</Server>{extra}</Protocol>"

    facts = (
        protocol("IMAP", "<Port>993</Port><SSL>on</SSL>")
        + protocol("POP3", "<Port>110</Port><SSL>off</SSL>")
        + protocol("SMTP", "<Port>587</Port><Encryption>TLS</Encryption>")
        + protocol("EXCH", "<Port>443</Port>")
    )
    wrapped = f"<Autodiscover xmlns='a'><Response xmlns='b'><Account>{facts}</Account></Response></Autodiscover>"

    found = autodiscover.read_settings(wrapped.encode())

    assert [(one.protocol, one.port, one.security) for one in found] == [
        (Protocol.IMAP, 993, TransportSecurity.TLS),
        (Protocol.POP3, 110, TransportSecurity.NONE),
        (Protocol.SMTP, 587, TransportSecurity.STARTTLS),
    ]


def test_an_address_is_escaped_in_what_is_asked() -> None:
    assert b"<EMailAddress>a&amp;b&lt;c@x.test</EMailAddress>" in autodiscover.request("a&b<c@x.test")


@pytest.mark.parametrize(
    ("answer", "location"),
    [
        (b'{"Url":"https://x.test/a"}', "https://x.test/a"),
        (b'{"Url":"http://x.test/a"}', None),
        (b'{"Url":5}', None),
        (b"[]", None),
        (b'{"ErrorCode":"ProtocolNotSupported"}', None),
    ],
)
def test_only_an_https_location_is_one(answer: bytes, location: str | None) -> None:
    assert autodiscover.read_location(answer) == location


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>Not found",
        b"<?xml version='1.0' encoding='utf-7'?><a/>",
        b"<?xml version='1.0' encoding='nonsense'?><a/>",
        b"<!DOCTYPE a><a/>",
        b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        b"<!DOCTYPE a SYSTEM 'https://x.test/a.dtd'><a/>",
        b"<a>" * 17 + b"</a>" * 17,
        b"<a>" + b"<b/>" * 2_000 + b"</a>",
        b"<a>" + b" " * MAX_BYTES + b"</a>",
        b"\0" * 100,
        "<a>ü".encode("latin-1"),
    ],
)
def test_xml_bombs_and_what_is_no_xml_are_refused(content: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        read_xml(content)


@pytest.mark.parametrize("unit", [b"<a>", b"<a ", b"<a b='", b"<!--", b"&#1;", b"<![CDATA[", b'"', b"<?x "])
def test_xml_that_repeats_is_read_in_linear_time(unit: bytes) -> None:
    with at_most_cpu_seconds(1), pytest.raises(ServerProtocolError):
        read_xml((unit * MAX_BYTES)[:MAX_BYTES])


_PIECES = st.sampled_from([
    "<clientConfig>", "<emailProvider>", "</emailProvider>", "<incomingServer type='imap'>", "</incomingServer>",
    "<hostname>", "</hostname>", "<port>993</port>", "<socketType>SSL</socketType>", "<username/>", "x.test", "&amp;",
    "</clientConfig>", "<Autodiscover xmlns='q'>", "<Response>", "<Account>", "<Protocol>", "</Protocol>", "<Type>IMAP",
    "<!DOCTYPE a>", "<![CDATA[", "]]>", "<?xml version='1.0'?>", "%EMAILDOMAIN%", "\0", "é",
])  # fmt: skip


@given(content=st.binary(max_size=200) | st.lists(_PIECES, max_size=30).map(lambda some: "".join(some).encode()))
def test_any_document_ends_in_offers_or_in_an_error_of_ours(content: bytes) -> None:
    for read in (read_config, autodiscover.read_settings, autodiscover.read_location):
        try:
            found = read(content)
        except ServerProtocolError:
            continue
        if isinstance(found, list):
            filled(found, "ann@x.test")
