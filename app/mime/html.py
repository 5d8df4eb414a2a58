"""Parsing of untrusted HTML within limits.

turbohtml and nh3 are linear for most input, but not for all: nh3 compares every attribute of a tag with every other
attribute, and turbohtml copies all attributes of <html> and <body> each time such a tag is repeated. Markup that would
cost more than linear time or memory is removed, and `problems` says so.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from turbohtml import Document, Element, parse

MAX_HTML_CHARS = 4 * 1024 * 1024
MAX_TAGS = 200_000
"""Start and end tags that are read. A large newsletter has 10,000."""
MAX_ATTRIBUTES = 100
"""Attributes of one tag. A tag with more is removed; its content is kept."""
MAX_ROOT_TAGS = 10
"""<html> and <body> tags of one document that are read, in all."""

MAX_SHEETS = 50

_SHEETS = "head > style, body style:not(noscript style, svg style, template style)"
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_ROOT_TAG = re.compile(r"<(?=(html|body)[\s/>])", re.IGNORECASE)


class ParsedHtml(NamedTuple):
    """The tree of a document, and descriptions of what was removed from it."""

    document: Document
    problems: tuple[str, ...]
    sheets: tuple[str, ...] = ()
    """The document's style sheets, in order."""

    @property
    def is_cut(self) -> bool:
        """Whether the end of the document is missing."""
        return any(problem.startswith("only the first") for problem in self.problems)


def parse_html(html: str, unseen: str) -> ParsedHtml:
    """Parse an HTML document, and drop what the CSS selector `unseen` matches. Never raises; linear."""
    problems: list[str] = []
    html = _within_root_tags(_within_tags(_within_chars(html, problems), problems), problems)
    document = parse(_SURROGATES.sub("\ufffd", html), positions=False, allow_declarative_shadow_roots=False)
    sheets = _sheets(document) if "<style" in html or "<STYLE" in html else ()
    document.remove(unseen)
    _unwrap_crowded_tags(document, problems)
    return ParsedHtml(document, tuple(problems), sheets)


def _sheets(document: Document) -> tuple[str, ...]:
    """The text of the style elements, inside a media query if the element has a `media` attribute."""
    elements = islice(document.select(_SHEETS), MAX_SHEETS)
    media = ((str(element.attrs.get("media") or "").strip(), element.text) for element in elements)
    return tuple(f"@media {medium} {{{css}}}" if medium else css for medium, css in media)


def _unwrap_crowded_tags(document: Document, problems: list[str]) -> None:
    """Replace elements that have too many attributes by their content."""
    crowded = [node for node in document.xpath_iter(f"//*[count(@*) > {MAX_ATTRIBUTES}]") if isinstance(node, Element)]
    for element in crowded:
        element.unwrap()
    if crowded:
        problems.append(f"tags with more than {MAX_ATTRIBUTES} attributes are removed, but their content is kept")


def _within_chars(html: str, problems: list[str]) -> str:
    if len(html) > MAX_HTML_CHARS:
        problems.append(f"only the first {MAX_HTML_CHARS} characters of the HTML are shown")
    return html[:MAX_HTML_CHARS]


def _within_tags(html: str, problems: list[str]) -> str:
    """The document up to its MAX_TAGS-th tag. Every tag begins with `<`, so counting `<` misses none."""
    if html.count("<") <= MAX_TAGS:
        return html
    problems.append(f"only the first {MAX_TAGS} tags of the HTML are shown")
    position = -1
    for _ in range(MAX_TAGS + 1):
        position = html.find("<", position + 1)
    return html[:position]


def _within_root_tags(html: str, problems: list[str]) -> str:
    """Escape the `<` of <html> and <body> tags after the first MAX_ROOT_TAGS."""
    if sum(1 for _ in _ROOT_TAG.finditer(html)) <= MAX_ROOT_TAGS:
        return html
    problems.append(f"html and body tags after the first {MAX_ROOT_TAGS} are shown as text")
    *_, last = islice(_ROOT_TAG.finditer(html), MAX_ROOT_TAGS)
    return html[: last.end()] + _ROOT_TAG.sub("&lt;", html[last.end() :])
