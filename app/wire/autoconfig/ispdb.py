"""Mozilla's format of account settings, config-v1.1.xml, that providers publish and that its own database holds.

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
    """The servers that a document names, in its order of preference; what we cannot log in to is left out.

    Raises ServerProtocolError for what is no such document.
    """
    root = read_xml(content)
    provider = root if root.tag == "emailProvider" else root.find("emailProvider")
    if provider is None:
        return []
    servers = [*provider.findall("incomingServer"), *provider.findall("outgoingServer")]
    return [found for found in map(_server, servers) if found is not None]


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
    """In the document's order; a server that names none takes a password."""
    told = list(texts_of(element, "authentication"))
    kinds = [
        Auth.OAUTH2 if text == "OAuth2" else Auth.PASSWORD for text in told if text == "OAuth2" or text in _PASSWORDS
    ]
    return tuple(dict.fromkeys(kinds)) if told else (Auth.PASSWORD,)
