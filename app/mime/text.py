"""Readable text from HTML and format=flowed, and previews."""

from __future__ import annotations

import re

from turbohtml import PlainText

from app.mime.html import parse_html

PREVIEW_CHARS = 200
MAX_PREVIEW_SOURCE_CHARS = 16 * 1024
MAX_FILLED_CHARS = 64 * 1024
"""Characters of a text that are searched for visible characters."""

_UNSEEN = "head, script, style, title, template, noscript, iframe, object, svg, math"
_LAYOUT = PlainText(links="none", images=True, layout="extended")
_UNSEEN_CHARS = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2007\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff"
    "\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_FILLER = re.compile(f"[{_UNSEEN_CHARS}]+")
"""Invisible characters, with which newsletters pad the first line."""
_SEEN = re.compile(f"[^\\s{_UNSEEN_CHARS}]")
_ATTRIBUTION = re.compile(
    r"(?:on|am|le|il|el|op|den) .{6,200} (?:wrote|schrieb|écrit|scritto|escribió|schreef|skrev) ?:", re.IGNORECASE
)
_SPACES = re.compile(r"\s+")
_RULE = re.compile(r"[-_=*~#\s]{3,}")


def text_of_html(html: str) -> str:
    """Lay out an HTML document as text, with image descriptions and without head, script, style and the like."""
    return parse_html(html, _UNSEEN).document.to_text(_LAYOUT).strip()


def preview_of(text: str) -> str:
    """The first PREVIEW_CHARS characters of the author's text, or else of quoted text, on one line."""
    first = text[:MAX_PREVIEW_SOURCE_CHARS]
    source = first if first.isascii() else _FILLER.sub("", text[:MAX_FILLED_CHARS])[:MAX_PREVIEW_SOURCE_CHARS]
    own = " ".join(_own_lines(source)) or source
    return _SPACES.sub(" ", own).strip()[:PREVIEW_CHARS].rstrip()


def is_blank(text: str) -> bool:
    """Whether a text has no visible characters."""
    return _SEEN.search(text, 0, MAX_FILLED_CHARS) is None


def unflowed(text: str, *, delete_space: bool = False) -> str:
    """Join the lines of format=flowed text (RFC 3676 §4.2): a line that ends in a space continues on the next."""
    paragraphs: list[str] = []
    pieces: list[str] = []
    depth_before = -1
    for line in text.split("\n"):
        content = line.lstrip(">")
        depth = len(line) - len(content)
        content = content.removeprefix(" ")
        if pieces and (depth != depth_before or content == "-- "):
            paragraphs.append(_paragraph(pieces, depth_before))
            pieces = []
        is_flowed = content.endswith(" ") and content != "-- "
        pieces.append(content[:-1] if is_flowed and delete_space else content)
        depth_before = depth
        if not is_flowed:
            paragraphs.append(_paragraph(pieces, depth))
            pieces = []
    if pieces:
        paragraphs.append(_paragraph(pieces, depth_before))
    return "\n".join(paragraphs)


def _paragraph(pieces: list[str], depth: int) -> str:
    text = "".join(pieces)
    return f"{'>' * depth} {text}".rstrip() if depth else text


def _own_lines(text: str) -> list[str]:
    """Lines before the signature, up to PREVIEW_CHARS in all, without quotes, attributions and rules."""
    own: list[str] = []
    chars_left = PREVIEW_CHARS
    for line in text.split("\n"):
        if line.rstrip("\r") in ("-- ", "--") or chars_left <= 0:
            break
        stripped = line.strip()
        if stripped and not _is_foreign(stripped):
            own.append(stripped)
            chars_left -= len(stripped)
    return own


def _is_foreign(line: str) -> bool:
    return line.startswith(">") or _RULE.fullmatch(line) is not None or _ATTRIBUTION.fullmatch(line[:300]) is not None
