"""HTML of strangers made safe to show.

Two parsers in a row: turbohtml builds the tree, caps its depth and drops what nobody should see, then nh3 lets through
only what is listed here. Each part is cleaned by itself and comes out balanced, so that parts set one after another
cannot reach into each other (EFAIL).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from urllib.parse import unquote

import nh3
from turbohtml import Element, Node, Text

from app.mime.css import safe_style
from app.mime.html import parse_html

MAX_REFERENCES = 20_000
"""nh3's time is quadratic in the `&` and no-break spaces of one text or value; from so many on they are split."""
_PIECE_CHARS = 4_000

ResolveCid = Callable[[str], str | None]
"""Content-ID without brackets -> a data: or http(s) URL or a path of our own, None where there is no such part."""

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
    "*": {"style", "title", "dir", "lang", "align"},
    "a": {"href"},
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
_LINK = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
_REMOTE = re.compile(r"\s*(?:https?:)?//", re.IGNORECASE)
_DATA_IMAGE = re.compile(r"data:image/(?:png|jpe?g|gif|webp|bmp|x-icon);base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)


class Images(StrEnum):
    """What becomes of images that would be loaded from elsewhere: kept out of `src`, or left."""

    BLOCK = "block"
    INLINE = "inline"


@dataclass(frozen=True, slots=True)
class SafeHtml:
    """A balanced fragment; how many remote images wait in `data-blocked-src`; sentences that say what is left out."""

    html: str
    blocked_images: int = 0
    problems: tuple[str, ...] = ()


def sanitise_html(html: str, *, images: Images = Images.BLOCK, resolve_cid: ResolveCid | None = None) -> SafeHtml:
    """An HTML document as a harmless fragment: no script, form, style sheet, frame, handler or foreign markup.

    Links open elsewhere and tell no referrer. `cid:` images get what `resolve_cid` says; of other images `data:` ones
    stay, remote ones as `images` says. Never raises; time is linear, markup nests no deeper than 512.
    """
    document, problems = parsed = parse_html(html, _DROPPED)
    sources, blocked = _settle_images(document.select("img"), images, resolve_cid)
    body = document.select_one("body") or document
    if html.count("&") + html.count("\xa0") > MAX_REFERENCES:
        _tame_references(body)
    markup = _body_markup(body)
    end = _CUT_MARK if parsed.is_cut else ""
    return SafeHtml(_cleaner(sources).clean(markup) + end, blocked, problems)


def text_as_html(text: str) -> str:
    """Plain text as a fragment that looks as it was typed; nothing in it is markup."""
    return f'<div style="white-space: pre-wrap">{escape(text)}</div>'


def _cleaner(sources: frozenset[str]) -> nh3.Cleaner:
    """The second parser. `sources` are the image sources that the first one settled: no other gets through."""

    def keep(_tag: str, name: str, value: str) -> str | None:
        if name == "style":
            return safe_style(value) or None
        if name == "href":
            return value if _LINK.match(value) else None
        if name == "src":
            return value if value in sources else None
        if name == "data-blocked-src":
            return value if _REMOTE.match(value) else None
        return value

    return nh3.Cleaner(
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=keep,
        url_schemes={"http", "https", "mailto", "tel", "data"},
        link_rel="noopener noreferrer",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


def _settle_images(found: list[Element], images: Images, resolve_cid: ResolveCid | None) -> tuple[frozenset[str], int]:
    """Give each image the source that it may have; which sources those are, and how many were blocked."""
    sources: set[str] = set()
    blocked = 0
    for image in found:
        original = image.attrs.pop("src", None)
        image.attrs.pop("data-blocked-src", None)
        source = original.strip() if isinstance(original, str) else ""
        settled = _settled(source, resolve_cid)
        if settled is not None:
            image.attrs["src"] = settled
            sources.add(settled)
        elif _REMOTE.match(source) and images is Images.INLINE:
            image.attrs["src"] = source
            sources.add(source)
        elif _REMOTE.match(source):
            image.attrs["data-blocked-src"] = source
            blocked += 1
    return frozenset(sources), blocked


def _settled(source: str, resolve_cid: ResolveCid | None) -> str | None:
    """The source of an image that comes with the message."""
    if source[:4].lower() == "cid:":
        return resolve_cid(unquote(source[4:]).strip("<> ")) if resolve_cid is not None else None
    return source if _DATA_IMAGE.fullmatch(source) else None


def _tame_references(body: Node) -> None:
    """Spare nh3 what it takes seconds for: texts come in pieces, an empty span between them, and long values go."""
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


def _body_markup(body: Node) -> str:
    """What is in the body, in a box with the body's own colours."""
    if not isinstance(body, Element):
        return body.serialize()
    colour = body.attrs.get("bgcolor")
    styles = [f"background-color: {colour}" if isinstance(colour, str) else "", str(body.attrs.get("style") or "")]
    style = safe_style("; ".join(styles))
    return f'<div style="{escape(style)}">{body.inner_html}</div>' if style else body.inner_html
