"""Inline style: the declarations that can only change how a message looks, within its own box."""

from __future__ import annotations

import re
from functools import lru_cache

MAX_STYLE_CHARS = 8_000
MAX_DECLARATIONS = 100

_PROPERTY_NAMES = (
    "background background-color border border-bottom border-collapse border-color border-left border-radius "
    "border-right border-spacing border-style border-top border-width box-sizing caption-side clear color direction "
    "display empty-cells float font font-family font-size font-style font-variant font-weight height letter-spacing "
    "line-height list-style list-style-type margin margin-bottom margin-left margin-right margin-top max-height "
    "max-width min-height min-width opacity outline overflow overflow-wrap padding padding-bottom padding-left "
    "padding-right padding-top table-layout text-align text-decoration text-indent text-transform unicode-bidi "
    "vertical-align visibility white-space width word-break word-spacing word-wrap"
)
_PROPERTIES = frozenset(_PROPERTY_NAMES.split())
_UNSAFE_VALUE = re.compile(
    r"[\\<>@{}\x00-\x08\x0e-\x1f]|/\*|url|image|expression|script|behavio|binding|element|attr|var|env|src",
    re.IGNORECASE,
)
"""What loads, runs, escapes or refers. Words are refused wherever they stand: no colour or length holds one."""
_NEGATIVE = re.compile(r"(?:^|[\s(,+*/])-")


@lru_cache(maxsize=1024)
def safe_style(style: str) -> str:
    """The harmless declarations of a style attribute, "" where there are none. Linear.

    Neither position nor negative margins: a message can't be drawn over the page around it.
    """
    declarations = style[:MAX_STYLE_CHARS].split(";")[:MAX_DECLARATIONS]
    kept = (_safe_declaration(declaration) for declaration in declarations)
    return "; ".join(declaration for declaration in kept if declaration)


def _safe_declaration(declaration: str) -> str:
    name, _, value = declaration.partition(":")
    name, value = name.strip().lower(), value.strip()
    if name not in _PROPERTIES or not value or _UNSAFE_VALUE.search(value):
        return ""
    if name.startswith(("margin", "text-indent")) and _NEGATIVE.search(value):
        return ""
    return f"{name}: {value}"
