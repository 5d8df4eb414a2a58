"""Parsing of untrusted XML: no DTD, entities or external references; bounded size, depth and number of elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from app.errors import ServerProtocolError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES = 64 * 1024
MAX_DEPTH = 16
MAX_ELEMENTS = 2_000


def read_xml(content: bytes) -> Element:
    """The root of a document, with namespaces removed from names. Raises ServerProtocolError."""
    # defusedxml loads a second copy of the standard parser, so import it only for discovery
    from xml.etree.ElementTree import TreeBuilder

    from defusedxml.ElementTree import DefusedXMLParser

    if len(content) > MAX_BYTES:
        raise ServerProtocolError("The document is too long")
    bounds = _Bounds(TreeBuilder())
    parser = DefusedXMLParser(target=bounds, forbid_dtd=True)
    try:
        parser.feed(content)
        root: Element = parser.close()
    except (SyntaxError, ValueError, LookupError):  # ParseError, DefusedXmlException, unknown encoding
        raise ServerProtocolError("The response is not valid XML") from None
    return root


class _Bounds:
    """A parser target that checks the bounds and forwards to `builder`."""

    def __init__(self, builder: object) -> None:
        self._builder = builder
        self._depth = self._count = 0
        self.data = builder.data  # type: ignore[attr-defined]
        self.close = builder.close  # type: ignore[attr-defined]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise ValueError("too deep or too many")
        self._builder.start(_bare(tag), attributes)  # type: ignore[attr-defined]

    def end(self, tag: str) -> None:
        self._depth -= 1
        self._builder.end(_bare(tag))  # type: ignore[attr-defined]


def _bare(name: str) -> str:
    return name.rpartition("}")[2]


def text_of(element: Element, name: str) -> str | None:
    """The stripped text of the first child with this name, or None."""
    text = element.findtext(name)
    return text.strip() or None if text else None


def texts_of(element: Element, name: str) -> Iterator[str]:
    """The stripped texts of all children with this name."""
    return (child.text.strip() for child in element.findall(name) if child.text)
