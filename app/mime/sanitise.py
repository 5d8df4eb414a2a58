"""Sanitising of HTML from untrusted senders.

Two parsers run in turn: turbohtml builds the tree, limits its depth and drops invisible and active elements; nh3 then
lets through only the tags and attributes listed here. Each part is cleaned separately and comes out balanced, so that
parts that are shown one after another cannot reach into each other (EFAIL).
"""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from itertools import groupby
from urllib.parse import unquote

import nh3
from turbohtml import Document, Element, Node, Text

from app.mime.css import safe_style
from app.mime.html import parse_html
from app.mime.quotes import SUMMARY, fold_quotes
from app.mime.stylesheet import Sheet, confined, renamed

MAX_REFERENCES = 20_000
"""nh3's time is quadratic in the `&` and no-break spaces of one text or value. With more than this, texts are split."""
_PIECE_CHARS = 4_000
MAX_URL_BYTES = 2_000
"""The longest URL of an image that Postgate fetches for the reader. Images with longer URLs stay blocked."""

ResolveCid = Callable[[str], str | None]
"""Content-ID without brackets -> a data: or http(s) URL or a path of Postgate; None for an unknown Content-ID."""

_DROPPED = (
    "head, script, style, title, template, noscript, noembed, noframes, iframe, frame, frameset, object, embed, "
    "applet, svg, math, xmp, plaintext, base, link, meta, audio, video, source, track, canvas, dialog"
)
_TAG_NAMES = (
    "a abbr address article aside b bdi bdo big blockquote br caption center cite code col colgroup dd del details "
    "dfn div dl dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i img ins kbd li main mark nav ol p "
    "pre q s samp section small span strike strong sub summary sup table tbody td tfoot th thead time tr tt u ul "
    "var wbr"
)
_TAGS = set(_TAG_NAMES.split())
_CELL = {"align", "valign", "bgcolor", "width", "height", "colspan", "rowspan", "nowrap", "headers", "scope"}
_ATTRIBUTES = {
    "*": {"style", "title", "dir", "lang", "align", "class", "id"},
    "a": {"href", "target"},
    "img": {"src", "alt", "width", "height", "border", "hspace", "vspace", "data-blocked-src"},
    "font": {"color", "face", "size"},
    "table": {"bgcolor", "border", "cellpadding", "cellspacing", "width", "height", "summary"},
    "tr": {"bgcolor", "valign"},
    "td": _CELL,
    "th": _CELL,
    "col": {"span", "width"},
    "colgroup": {"span", "width"},
    "ol": {"start", "type", "reversed"},
    "ul": {"type"},
    "li": {"value", "type"},
    "blockquote": {"type"},
    "hr": {"size", "width", "color", "noshade"},
    "bdo": {"dir"},
}
_CUT_MARK = "<p>[The rest of the message is not shown: it is too large.]</p>"
_BOX = "contain: content; overflow: auto; max-width: 100%; max-height: 100%"
_LETTERS = (
    r"!-;=?-~\u00a1-\u02ff\u0370-\u0482\u048a-\u0587\u2010-\u2027\u20ac\u3001-\u3029\u3030-\u3098"
    r"\u309b-\u9fff\uac00-\ud7a3\uff01-\uffef"
)
_PLAIN = re.compile(rf"(?:</?(?:p|b|i|u|em|strong|div|span|br)>|\s|[{_LETTERS}]{{1,40}}(?=[\s<]|$))*+")
"""Markup without styling, whose words are neither wider than a narrow page nor higher than their line."""
_URL_CONTROLS = re.compile(r"[\t\n\r]")
_URL_SPACE = "".join(map(chr, range(0x21)))
_BARE_HOST = re.compile(r"^www\.[a-z0-9-]+\.", re.IGNORECASE)
_PLACE = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_LINK = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
_REMOTE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_DATA_IMAGE = re.compile(r"data:image/(?:png|jpe?g|gif|webp|bmp|x-icon);base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)


class Images(StrEnum):
    """How remote images are handled: not loaded (their URL stays out of `src`), loaded, or fetched by Postgate."""

    BLOCK = "block"
    INLINE = "inline"
    PROXY = "proxy"


class Quotes(StrEnum):
    """How quoted history is shown: unchanged, or in a closed <details>."""

    KEEP = "keep"
    FOLD = "fold"


@dataclass(frozen=True, slots=True)
class Look:
    """How a body is shown."""

    images: Images = Images.BLOCK
    quotes: Quotes = Quotes.KEEP
    image_mark: str = ""
    """With Images.PROXY, the prefix of an image's `src`; the image's URL in base64url follows."""


@dataclass(frozen=True, slots=True)
class SafeHtml:
    """A balanced fragment, the number of remote images in `data-blocked-src`, and descriptions of what was removed."""

    html: str
    blocked_images: int = 0
    problems: tuple[str, ...] = ()


def sanitise_html(
    html: str,
    *,
    images: Images = Images.BLOCK,
    resolve_cid: ResolveCid | None = None,
    quotes: Quotes = Quotes.KEEP,
    image_mark: str = "",
) -> SafeHtml:
    """Turn an HTML document into a harmless fragment: no scripts, forms, frames, event handlers or foreign markup.

    Style sheets are confined to the fragment (see `stylesheet`). Links open in a new window without a referrer, except
    for links within the message. `cid:` images get the URL that `resolve_cid` returns, `data:` images stay, and
    `images` decides on remote ones. Never raises; time is linear, and markup nests at most 512 levels deep.
    """
    parsed = parse_html(html, _DROPPED)
    document = parsed.document
    if quotes is Quotes.FOLD:
        fold_quotes(document)
    sheet = confined(parsed.sheets, _scope_of(html)) if parsed.sheets else Sheet("")
    look = Look(images, quotes, image_mark)
    sources, blocked = _settle_images(document.select("img"), look, resolve_cid)
    targets = _settle_links(document)
    scope = sheet.scope or (_scope_of(html) if targets else "")
    body = document.select_one("body") or document
    if html.count("&") + html.count("\xa0") > MAX_REFERENCES:
        _tame_references(body)
    markup = _cleaner(_Permitted(sources, scope, sheet.classes, sheet.ids | targets)).clean(_body_markup(body, sheet))
    style = f"<style>{sheet.css}</style>" if sheet.css else ""
    end = _CUT_MARK if parsed.is_cut else ""
    return SafeHtml(style + markup + end, blocked, parsed.problems)


def text_as_html(text: str, quotes: Quotes = Quotes.KEEP) -> str:
    """Turn plain text into an HTML fragment that keeps its spaces and line ends. All markup is escaped."""
    inner = escape(text) if quotes is Quotes.KEEP else "".join(_folded_lines(text))
    return f'<div style="white-space: pre-wrap">{inner}</div>'


def _folded_lines(text: str) -> Iterator[str]:
    """Escaped text, with each run of quoted lines in a closed <details>."""
    for is_quoted, lines in groupby(text.splitlines(keepends=True), key=lambda line: line.startswith(">")):
        run = escape("".join(lines))
        yield f"<details><summary>{SUMMARY}</summary>{run}</details>" if is_quoted else run


@dataclass(frozen=True, slots=True)
class _Permitted:
    """What the first pass decided and the second lets through: image sources, and the classes and ids to rename."""

    sources: frozenset[str]
    scope: str
    classes: set[str]
    ids: set[str]

    def class_(self, value: str) -> str | None:
        names = value.split()
        renamed_names = [renamed(name, self.scope) for name in names if name in self.classes]
        return " ".join([self.scope, *renamed_names] if self.scope and self.scope in names else renamed_names) or None

    def id(self, value: str) -> str | None:
        return renamed(value, self.scope) if value in self.ids else None

    def href(self, value: str) -> str | None:
        if value.startswith("#"):
            return f"#{renamed(value[1:], self.scope)}" if value[1:] in self.ids else None
        return value if _LINK.match(value) else None


def _cleaner(permitted: _Permitted) -> nh3.Cleaner:
    """The cleaner of the second pass."""
    rules: dict[str, Callable[[str], str | None]] = {
        "style": lambda value: safe_style(value) or None,
        "class": permitted.class_,
        "id": permitted.id,
        "href": permitted.href,
        "src": lambda value: value if value in permitted.sources else None,
        "data-blocked-src": lambda value: value if _REMOTE.match(value) else None,
        "target": lambda value: value if value == "_blank" else None,
    }

    def keep(_tag: str, name: str, value: str) -> str | None:
        rule = rules.get(name)
        return value if rule is None else rule(value)

    return nh3.Cleaner(
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=keep,
        url_schemes={"http", "https", "mailto", "tel", "data"},
        link_rel="noopener noreferrer",
    )


def _settle_images(images: list[Element], look: Look, resolve_cid: ResolveCid | None) -> tuple[frozenset[str], int]:
    """Give each image its permitted source. Return the permitted sources, and the number of blocked images."""
    sources: set[str] = set()
    blocked = 0
    for image in images:
        original = image.attrs.pop("src", None)
        image.attrs.pop("data-blocked-src", None)
        source = original.strip() if isinstance(original, str) else ""
        settled = _settled(source, resolve_cid) or _settled_remote(source, look)
        if settled is not None:
            image.attrs["src"] = settled
            sources.add(settled)
        elif _REMOTE.match(source):
            image.attrs["data-blocked-src"] = source
            blocked += 1
    return frozenset(sources), blocked


def _settle_links(document: Document) -> set[str]:
    """Normalise links as browsers read them. Return the ids in the document that its links lead to."""
    target_ids: set[str] = set()
    for link in document.select("a"):
        href = _URL_CONTROLS.sub("", str(link.attrs.get("href") or "")).strip(_URL_SPACE)
        if href.startswith("#"):
            link.attrs.pop("target", None)
            target_ids.add(unquote(href[1:]))
            href = f"#{unquote(href[1:])}"
        else:
            link.attrs["target"] = "_blank"
            href = f"https:{href}" if href.startswith("//") else _BARE_HOST.sub(r"http://\g<0>", href)
        link.attrs["href"] = href
    target_ids = {name for name in target_ids if _PLACE.fullmatch(name)}
    targets = document.select("a[name], [id]") if target_ids else []
    return target_ids & {_target_id(target) for target in targets}


def _target_id(target: Element) -> str:
    """The id of an element that a link may lead to. An element with only a `name` gets it as its id."""
    id_, name = target.attrs.get("id"), target.attrs.get("name")
    if id_ is None and isinstance(name, str):
        target.attrs["id"] = id_ = name
    return str(id_)


def _scope_of(html: str) -> str:
    """The class of a document's box, derived from the document's hash."""
    return f"pg{hashlib.sha256(html.encode('utf-8', 'replace')).hexdigest()[:10]}"


def _settled(source: str, resolve_cid: ResolveCid | None) -> str | None:
    """The source of an image in the message (`cid:` or `data:`), or None."""
    if source[:4].lower() == "cid:":
        return resolve_cid(unquote(source[4:]).strip("<> ")) if resolve_cid is not None else None
    return source if _DATA_IMAGE.fullmatch(source) else None


def _settled_remote(source: str, look: Look) -> str | None:
    """The source of a remote image; None if it stays blocked."""
    if look.images is Images.BLOCK or not _REMOTE.match(source):
        return None
    if look.images is Images.INLINE:
        return source
    url = _URL_CONTROLS.sub("", source)
    url = f"https:{url}" if url.startswith("//") else url
    encoded = url.encode("utf-8", "replace")
    return look.image_mark + urlsafe_b64encode(encoded).rstrip(b"=").decode() if len(encoded) <= MAX_URL_BYTES else None


def _tame_references(body: Node) -> None:
    """Keep nh3 fast (see MAX_REFERENCES): split long texts by empty spans, and remove long attributes with `&`."""
    for node in list(body.descendants):
        if isinstance(node, Text) and len(node.data) > _PIECE_CHARS:
            pieces: list[Node] = []
            for start in range(0, len(node.data), _PIECE_CHARS):
                pieces += [Text(node.data[start : start + _PIECE_CHARS]), Element("span")]
            node.replace_with(*pieces)
        elif isinstance(node, Element):
            for name in [
                name for name, value in node.attrs.items() if len(str(value)) > _PIECE_CHARS and "&" in str(value)
            ]:
                del node.attrs[name]


def _body_markup(body: Node, sheet: Sheet) -> str:
    """The body's content in a box with the body's style, and with the class that confines the style sheet."""
    if not isinstance(body, Element):
        return body.serialize()
    colour = body.attrs.get("bgcolor")
    styles = [f"background-color: {colour}" if isinstance(colour, str) else "", str(body.attrs.get("style") or "")]
    style = safe_style("; ".join(styles))
    classes = f"{sheet.scope} {body.attrs.get('class') or ''}" if sheet.css else ""
    attributes = [f' {name}="{escape(value)}"' for name, value in (("class", classes), ("style", style)) if value]
    return f"<div{''.join(attributes)}>{body.inner_html}</div>" if attributes else body.inner_html


def boxed(fragments: str) -> str:
    """Put safe fragments into a box that clips overflow. Plain markup, which cannot overflow, stays as it is."""
    return fragments if _PLAIN.fullmatch(fragments) else f'<div style="{_BOX}">{fragments}</div>'
