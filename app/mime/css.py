"""CSS declarations that are safe to keep: they only change how a message looks, inside its box."""

from __future__ import annotations

import re
from functools import lru_cache

MAX_STYLE_CHARS = 8_000
MAX_DECLARATIONS = 100
MAX_VALUE_CHARS = 500

_PROPERTY_NAMES = (
    "align-content align-items align-self background background-clip background-color background-origin "
    "background-position background-repeat background-size border border-bottom border-bottom-color "
    "border-bottom-left-radius border-bottom-right-radius border-bottom-style border-bottom-width border-collapse "
    "border-color border-left border-left-color border-left-style border-left-width border-radius border-right "
    "border-right-color border-right-style border-right-width border-spacing border-style border-top "
    "border-top-color border-top-left-radius border-top-right-radius border-top-style border-top-width border-width "
    "box-sizing caption-side clear color direction display empty-cells flex flex-basis flex-direction flex-flow "
    "flex-grow flex-shrink flex-wrap float font font-family font-size font-style font-variant font-weight gap "
    "height hyphens justify-content letter-spacing line-height list-style list-style-position list-style-type "
    "margin margin-bottom margin-left margin-right margin-top max-height max-width min-height min-width object-fit "
    "object-position opacity overflow overflow-wrap padding padding-bottom padding-left padding-right padding-top "
    "table-layout text-align text-decoration text-decoration-color text-decoration-line text-decoration-style "
    "text-indent text-overflow text-transform unicode-bidi vertical-align visibility white-space width word-break "
    "word-spacing word-wrap"
)
_PROPERTIES = frozenset(_PROPERTY_NAMES.split())
_UNSAFE_VALUE = re.compile(
    r"[\\<>@{}\x00-\x08\x0e-\x1f]|/\*|url|image|expression|script|behavio|binding|element|attr|var|env|src",
    re.IGNORECASE,
)
"""Values that load, run, escape or refer. The words are refused anywhere: no colour or length contains them."""
_IMAGE = re.compile(r"url\([^()\\;{}]*\)", re.IGNORECASE)
"""The image of a background. It is removed; the background's colour stays."""
_NEGATIVE = re.compile(r"(?:^|[\s(,+*/])-")


@lru_cache(maxsize=1024)
def safe_style(style: str) -> str:
    """The harmless declarations of a style attribute; "" if there are none. Linear."""
    declarations = style[:MAX_STYLE_CHARS].split(";")[:MAX_DECLARATIONS]
    harmless = (safe_declaration(*_split(declaration)) for declaration in declarations)
    return "; ".join(declaration for declaration in harmless if declaration)


def safe_declaration(name: str, value: str) -> str:
    """Return a declaration of a lower-case property, or "" if it is not harmless.

    Position, outline, shadow, transform and negative margins are refused, so an element draws nothing outside its
    area. The box around the message clips overflow. A background loses its image and keeps its colour.
    """
    if name == "background":
        value = " ".join(_IMAGE.sub("", value).split())
    if name not in _PROPERTIES or not value or len(value) > MAX_VALUE_CHARS or _UNSAFE_VALUE.search(value):
        return ""
    if name.startswith(("margin", "text-indent", "letter-spacing", "word-spacing")) and _NEGATIVE.search(value):
        return ""
    return f"{name}: {value}"


def _split(declaration: str) -> tuple[str, str]:
    name, _, value = declaration.partition(":")
    return name.strip().lower(), value.strip()
