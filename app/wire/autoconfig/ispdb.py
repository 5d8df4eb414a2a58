"""Mozilla's format for account settings, config-v1.1.xml, used by providers and by Mozilla's own database.

Source: https://www.bucksch.org/1/projects/thunderbird/autoconfiguration/config-file-format.html, and
draft-ietf-mailmaint-autoconfig.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.mail.offers import Auth, Offer, offer
from app.mail.types import TransportSecurity
from app.wire.autoconfig.xml import read_xml, text_of, texts_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_SECURITY = {
    "SSL": TransportSecurity.TLS,
    "STARTTLS": TransportSecurity.STARTTLS,
    "plain": TransportSecurity.NONE,
}
_PASSWORDS = frozenset({"password-cleartext", "plain", "password-encrypted", "secure"})


def read_config(content: bytes) -> list[Offer]:
    """The servers in a document, in its order of preference, without those whose login methods are unsupported.

    Raises ServerProtocolError if the document is not valid XML.
    """
    root = read_xml(content)
    provider = root if root.tag == "emailProvider" else root.find("emailProvider")
    if provider is None:
        return []
    servers = [*provider.findall("incomingServer"), *provider.findall("outgoingServer")]
    return [server for server in map(_server, servers) if server is not None]


def _server(element: Element) -> Offer | None:
    auth = _auth(element)
    if not auth:
        return None
    security = _SECURITY.get(text_of(element, "socketType") or "")
    return offer(
        element.get("type", "").lower(),
        text_of(element, "hostname"),
        text_of(element, "port"),
        security,
        username=text_of(element, "username"),
        auth=auth,
    )


def _auth(element: Element) -> tuple[Auth, ...]:
    """The supported login methods, in the document's order. A server that names no method takes a password."""
    names = list(texts_of(element, "authentication"))
    supported = (name for name in names if name == "OAuth2" or name in _PASSWORDS)
    methods = [Auth.OAUTH2 if name == "OAuth2" else Auth.PASSWORD for name in supported]
    return tuple(dict.fromkeys(methods)) if names else (Auth.PASSWORD,)
