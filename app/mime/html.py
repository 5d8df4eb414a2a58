"""HTML from strangers, parsed within bounds.

turbohtml and nh3 are linear in most input, but not in all of it: nh3 compares every attribute of a tag with every
other one, and turbohtml copies all attributes of <html> and <body> each time such a tag is repeated. What would cost
more than linear time or memory is left out, and the reader is informed.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from turbohtml import Document, Element, parse

MAX_HTML_CHARS = 4 * 1024 * 1024
MAX_TAGS = 200_000
"""Tags that are read, start and end tags counted; a large newsletter has 10,000."""
MAX_ATTRIBUTES = 100
"""Attributes of one tag. A tag with more is left out, its content is not."""
MAX_ROOT_TAGS = 10
"""<html> and <body> tags of one document that are read, each."""

MAX_SHEETS = 50

_SHEETS = "head > style, body style:not(noscript style, svg style, template style)"
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_ROOT_TAG = re.compile(r"<(?=(html|body)[\s/>])", re.IGNORECASE)


class ParsedHtml(NamedTuple):
    """The tree, and sentences that say what was left out of it."""

    document: Document
    problems: tuple[str, ...]
    sheets: tuple[str, ...] = ()
    """The style sheets of the document, in order."""

    @property
    def is_cut(self) -> bool:
        """Whether the end of the document is missing."""
        return any(problem.startswith("only the first") for problem in self.problems)


def parse_html(html: str, unseen: str) -> ParsedHtml:
    """The tree of an HTML document without what the CSS selector `unseen` matches. Never raises; linear."""
    problems: list[str] = []
    html = _within_root_tags(_within_tags(_within_chars(html, problems), problems), problems)
    document = parse(_SURROGATES.sub("\ufffd", html), positions=False, allow_declarative_shadow_roots=False)
    sheets = _sheets(document) if "<style" in html or "<STYLE" in html else ()
    document.remove(unseen)
    _unwrap_crowded_tags(document, problems)
    return ParsedHtml(document, tuple(problems), sheets)


def _sheets(document: Document) -> tuple[str, ...]:
    """The text of style elements; of one that names a medium, as a media query."""
    found = islice(document.select(_SHEETS), MAX_SHEETS)
    media = ((str(element.attrs.get("media") or "").strip(), element.text) for element in found)
    return tuple(f"@media {medium} {{{css}}}" if medium else css for medium, css in media)


def _unwrap_crowded_tags(document: Document, problems: list[str]) -> None:
    """Replace elements that have too many attributes by their content."""
    crowded = [node for node in document.xpath_iter(f"//*[count(@*) > {MAX_ATTRIBUTES}]") if isinstance(node, Element)]
    for element in crowded:
        element.unwrap()
    if crowded:
        problems.append(f"tags with more than {MAX_ATTRIBUTES} attributes are left out, but not their content")


def _within_chars(html: str, problems: list[str]) -> str:
    if len(html) > MAX_HTML_CHARS:
        problems.append(f"only the first {MAX_HTML_CHARS} characters of the HTML are shown")
    return html[:MAX_HTML_CHARS]


def _within_tags(html: str, problems: list[str]) -> str:
    """The document up to its MAX_TAGS-th tag. Every tag begins with `<`, so none is missed."""
    if html.count("<") <= MAX_TAGS:
        return html
    problems.append(f"only the first {MAX_TAGS} tags of the HTML are shown")
    position = -1
    for _ in range(MAX_TAGS + 1):
        position = html.find("<", position + 1)
    return html[:position]


def _within_root_tags(html: str, problems: list[str]) -> str:
    """Without the `<` of repeated <html> and <body> tags, wherever they stand."""
    if sum(1 for _ in _ROOT_TAG.finditer(html)) <= MAX_ROOT_TAGS:
        return html
    problems.append(f"html and body tags after the first {MAX_ROOT_TAGS} are left out")
    *_, last = islice(_ROOT_TAG.finditer(html), MAX_ROOT_TAGS)
    return html[: last.end()] + _ROOT_TAG.sub("&lt;", html[last.end() :])
