"""Folding of quoted history in HTML mail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from turbohtml import Document, Element, Node, Text

MAX_QUOTES = 200
"""Quotes of one message that are folded. Folded quotes do not nest."""
SIBLINGS_LIMIT, RULES_LIMIT = 5, 50
SUMMARY = "•••"

_QUOTE = (
    "blockquote[type=cite], blockquote.gmail_quote, .protonmail_quote, .yahoo_quoted, .gmail_extra blockquote, "
    ".zmail_extra blockquote, .tutanota_quote, blockquote.cite, blockquote[cite^=mid]"
)
_CANDIDATES = "blockquote, .protonmail_quote, .yahoo_quoted, .tutanota_quote"
_REST = (
    "#divRplyFwdMsg, #appendonsend, #mail-editor-reference-message-container, .OutlookMessageHeader, "
    "#OLK_SRC_BODY_SECTION, #ms-outlook-mobile-body-separator-line"
)
"""Elements that Outlook writes before quoted history, which goes on to the end."""
_OUTLOOK_RULE = re.compile(r"border-top:\s*solid\s+#?(?:E1E1E1|B5C4DF|CCCCCC)", re.IGNORECASE)
_FIRST_HEADER = re.compile(r"\s*(?:From|Von|De|Da|Van|Från|Fra|От|发件人|寄件者|差出人|보낸 사람)\s*:", re.IGNORECASE)
_ATTRIBUTION = re.compile(r".{6,300}[:：]\s*$", re.DOTALL)
_DIGIT = re.compile(r"\d")


def fold_quotes(document: Document) -> None:
    """Put each quote into a closed <details>. Text before, between and after quotes stays visible. Bounded."""
    for quote in islice(_quotes(document), MAX_QUOTES):
        _fold(quote, until=quote)
    start = next(_starts_of_rest(document), None)
    if start is not None and not _is_folded(start):
        _fold(start, until=None)


def _quotes(document: Document) -> Iterator[Element]:
    """Outermost quotes in order: elements that programs mark as quotes, and blockquotes after an attribution."""
    for element in list(document.select(_CANDIDATES)):
        if (element.matches(_QUOTE) or _is_introduced(element)) and not _is_folded(element):
            yield element


def _is_folded(element: Element) -> bool:
    return element.closest("details") is not None


def _is_introduced(quote: Element) -> bool:
    """Whether the text before a quote is an attribution: it ends in a colon and contains a digit, as of a date."""
    nearest = (_text_of(node)[-400:].strip() for node in islice(quote.previous_siblings, SIBLINGS_LIMIT))
    text = next((text for text in nearest if text), "")
    return _ATTRIBUTION.fullmatch(text) is not None and _DIGIT.search(text) is not None


def _starts_of_rest(document: Document) -> Iterator[Element]:
    yield from document.select(_REST)
    for element in islice(document.select("div[style*=border-top]"), RULES_LIMIT):
        style = str(element.attrs.get("style") or "")
        if _OUTLOOK_RULE.search(style) and _FIRST_HEADER.match(element.text[:200]):
            yield _outermost(element)


def _outermost(element: Element) -> Element:
    """The outermost div with no text beyond this element's. Outlook wraps the header of a quote in one."""
    for _ in range(3):
        parent = element.parent
        if not (isinstance(parent, Element) and parent.tag == "div") or parent.text.strip() != element.text.strip():
            break
        element = parent
    return element


def _fold(first: Element, until: Element | None) -> None:
    """Put the siblings from `first` to `until` into a <details>; all that follow `first` if `until` is None."""
    details = first.wrap_siblings(Element("details"), until=until)
    summary = Element("summary")
    summary.append(Text(SUMMARY))
    details.insert(0, summary)


def _text_of(node: Node) -> str:
    return node.data if isinstance(node, Text) else node.text if isinstance(node, Element) else ""
