"""Microsoft's Autodiscover: Outlook's XML ("POX", MS-OXDSCLI), and the JSON that points to a server ("v2")."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import orjson

from app.errors import ServerProtocolError
from app.mail.offers import EMAIL, Offer, offer
from app.mail.types import TransportSecurity
from app.wire.autoconfig.xml import read_xml, text_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_REQUEST_SPACE = "http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006"
_ANSWER_SPACE = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"
_IMPLICIT_TLS = {"imap": "993", "pop3": "995", "smtp": "465"}
MAX_URL_CHARS = 2_000


def request(email: str) -> bytes:
    """The body to POST, to request the settings of this address."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f'<Autodiscover xmlns="{_REQUEST_SPACE}"><Request><EMailAddress>{escape(email)}</EMailAddress>'
        f"<AcceptableResponseSchema>{_ANSWER_SPACE}</AcceptableResponseSchema></Request></Autodiscover>"
    ).encode()


def read_settings(content: bytes) -> list[Offer]:
    """The IMAP, POP3 and SMTP servers of a response. Raises ServerProtocolError if it is not valid XML."""
    root = read_xml(content)
    protocols = root.findall("Response/Account/Protocol")
    return [server for server in map(_server, protocols) if server is not None]


def _server(element: Element) -> Offer | None:
    protocol = (text_of(element, "Type") or element.get("Type") or "").lower()
    port = text_of(element, "Port") or _IMPLICIT_TLS.get(protocol)
    username = text_of(element, "LoginName") or EMAIL
    return offer(protocol, text_of(element, "Server"), port, _security(element, protocol, port), username=username)


def _security(element: Element, protocol: str, port: str | None) -> TransportSecurity:
    """Read `Encryption`, else `SSL`. `SSL` is on by default; on ports without implicit TLS it means STARTTLS."""
    encryption = (text_of(element, "Encryption") or "").lower()
    if encryption == "none" or (not encryption and (text_of(element, "SSL") or "on").lower() == "off"):
        return TransportSecurity.NONE
    if encryption in ("ssl", "tls") and port == _IMPLICIT_TLS.get(protocol):
        return TransportSecurity.TLS
    if encryption == "ssl" or (not encryption and port == _IMPLICIT_TLS.get(protocol)):
        return TransportSecurity.TLS
    return TransportSecurity.STARTTLS


def read_location(content: bytes) -> str | None:
    """The https URL of the settings, from the JSON of version 2; None if it has none. Raises ServerProtocolError."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise ServerProtocolError("The response is not valid JSON") from None
    url = answer.get("Url") if isinstance(answer, dict) else None
    is_usable = isinstance(url, str) and url.startswith("https://") and len(url) <= MAX_URL_CHARS and url.isascii()
    return url if is_usable else None
