"""Style sheets of messages, confined to their message.

tinycss2 parses a sheet, and the harmless rules are serialised. A class confines every selector to the message's box.
Classes and ids are renamed, so that they match nothing in the surrounding page or in other messages. Only the
declarations that `css` allows remain: nothing loads, runs, or is placed outside the box.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from app.mime.css import safe_declaration

MAX_SHEET_CHARS = 256 * 1024
MAX_RULES = 5_000
MAX_SELECTORS = 100
MAX_NESTING = 20
"""How deep brackets may nest. A sheet with deeper nesting is dropped."""
MAX_SELECTOR_TOKENS = 60

_BRACKETS = re.compile(r"[()\[\]{}]")
_COMMENT_MARKS = re.compile(r"<!--|-->")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,80}")
_TAG = re.compile(r"[a-z][a-z0-9]{0,20}")
_MEDIA = re.compile(r"[a-zA-Z0-9\s,.:()<>=/-]{1,300}")
_MEDIA_NAMES = (
    "all and not only screen print min-width max-width width min-device-width max-device-width device-width "
    "orientation portrait landscape prefers-color-scheme dark light prefers-reduced-motion reduce no-preference hover "
    "min-resolution max-resolution -webkit-min-device-pixel-ratio -webkit-max-device-pixel-ratio px em rem dpi dppx"
)
_MEDIA_WORDS = frozenset(_MEDIA_NAMES.split())
_WORD = re.compile(r"-?[a-zA-Z][a-zA-Z-]*")
_PSEUDO_CLASSES = frozenset(
    {"hover", "active", "focus", "visited", "link", "first-child", "last-child", "only-child"}
    | {"first-of-type", "last-of-type"}
)
_COUNTED = frozenset({"nth-child", "nth-last-child", "nth-of-type", "nth-last-of-type"})
_COUNT = re.compile(r"(?:odd|even|[+-]?\d{0,4}n?(?:\s?[+-]\s?\d{1,4})?)")
_SIBLING = re.compile(r"[^\s>+~]*\s*[+~]")
"""The rest of a selector that selects a sibling of the box."""


@dataclass(slots=True)
class Sheet:
    """A confined style sheet, and the original names of its classes and ids."""

    scope: str
    css: str = ""
    classes: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)


def renamed(name: str, scope: str) -> str:
    """The name of a message's class or id inside the message's box."""
    return f"{name}-{scope}"


def confined(sheets: Sequence[str], scope: str) -> Sheet:
    """The harmless rules of style sheets, confined to the content of the element with class `scope`. Never raises."""
    sheet = Sheet(scope)
    css = _COMMENT_MARKS.sub(" ", "\n".join(sheets)[:MAX_SHEET_CHARS])
    if "{" not in css or _nesting(css) > MAX_NESTING:
        return sheet
    from tinycss2 import parse_stylesheet  # imported late: only some messages have a style sheet

    rules = parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    sheet.css = "\n".join(islice(_rules(rules, sheet, is_nested=False), MAX_RULES))
    return sheet


def _nesting(css: str) -> int:
    depth = deepest = 0
    for mark in _BRACKETS.finditer(css):
        depth = depth + 1 if mark[0] in "([{" else max(0, depth - 1)
        deepest = max(deepest, depth)
    return deepest


def _rules(rules: Sequence[Any], sheet: Sheet, *, is_nested: bool) -> Iterator[str]:
    for rule in rules:
        if rule.type == "qualified-rule":
            text = _rule(rule, sheet)
            if text:
                yield text
        elif rule.type == "at-rule" and rule.lower_at_keyword == "media" and rule.content is not None and not is_nested:
            yield from _media(rule, sheet)


def _media(rule: Any, sheet: Sheet) -> Iterator[str]:
    """A media query with its rules. Queries for more than the size and the colours of the screen are dropped."""
    from tinycss2 import parse_rule_list, serialize

    query = serialize(rule.prelude).strip()
    if not _MEDIA.fullmatch(query) or any(word.lower() not in _MEDIA_WORDS for word in _WORD.findall(query)):
        return
    inner = list(_rules(parse_rule_list(rule.content, True, True), sheet, is_nested=True))
    if inner:
        yield f"@media {query} {{{' '.join(inner)}}}"


def _rule(rule: Any, sheet: Sheet) -> str:
    from tinycss2 import parse_declaration_list, serialize

    declarations = []
    for declaration in parse_declaration_list(rule.content, skip_comments=True, skip_whitespace=True):
        if declaration.type == "declaration":
            important = " !important" if declaration.important else ""
            text = safe_declaration(declaration.lower_name, serialize(declaration.value).strip() + important)
            declarations += [text] if text else []
    if not declarations:
        return ""
    selectors = [_selector(nodes, sheet) for nodes in islice(_split(rule.prelude), MAX_SELECTORS)]
    selector_list = ", ".join(selector for selector in selectors if selector)
    return f"{selector_list} {{{'; '.join(declarations)}}}" if selector_list else ""


# ---- selectors


def _split(prelude: Sequence[Any]) -> Iterator[list[Any]]:
    """The tokens of each selector in a list."""
    nodes: list[Any] = []
    for node in prelude:
        if node == ",":
            yield nodes
            nodes = []
        elif node.type != "comment":
            nodes.append(node)
    yield nodes


def _selector(nodes: Sequence[Any], sheet: Sheet) -> str:
    """One selector, confined to the box; "" if it is not known to be harmless."""
    names = Sheet(sheet.scope)
    parts = list(_compounds(nodes[:MAX_SELECTOR_TOKENS], names)) if len(nodes) <= MAX_SELECTOR_TOKENS else []
    if not parts or any(part is None for part in parts):
        return ""
    text = "".join(part for part in parts if part is not None).strip()
    sheet.classes |= names.classes
    sheet.ids |= names.ids
    return _in_box(text, sheet.scope)


def _in_box(text: str, scope: str) -> str:
    """A selector below the box. `html` and `body`, which a fragment does not have, become the box itself."""
    box = f".{scope}"
    while text:
        head = re.match(r"(?:html|body)(?![\w-])", text)
        if head is None:
            break
        rest = text[head.end() :]
        if not rest or rest[0] not in " >" or not re.match(r"\s*>?\s*(?:html|body)(?![\w-])", rest):
            return "" if _SIBLING.match(rest) else box + rest
        text = rest.lstrip(" >")
    return f"{box} {text}" if text and text[0] not in "+~" else ""


def _compounds(nodes: Sequence[Any], names: Sheet) -> Iterator[str | None]:
    """The pieces of a selector, renamed; None for a forbidden piece."""
    remaining = iter(nodes)
    for node in remaining:
        if node.type == "whitespace":
            yield " "
        elif node.type == "ident":
            yield node.lower_value if _TAG.fullmatch(node.lower_value) else None
        elif node.type == "hash" and node.is_identifier:
            yield _renamed("#", node.value, names.ids, names.scope)
        elif node.type == "[] block":
            yield _class_block(node.content, names)
        elif node == ".":
            name = next(remaining, None)
            is_name = name is not None and name.type == "ident"
            yield _renamed(".", name.value, names.classes, names.scope) if is_name and name is not None else None
        elif node == ":":
            yield _pseudo_class(next(remaining, None))
        else:
            yield node.value if node in (">", "+", "~", "*") else None


def _renamed(mark: str, name: str, names: set[str], scope: str) -> str | None:
    if not _NAME.fullmatch(name):
        return None
    names.add(name)
    return f"{mark}{renamed(name, scope)}"


def _class_block(content: Sequence[Any], names: Sheet) -> str | None:
    """Read `[class="a"]` and `[class~="a"]`, which old newsletters use for `.a`."""
    from tinycss2 import serialize

    match = re.fullmatch(r"""\s*class\s*[~*]?=\s*["']?([\w-]+)["']?\s*""", serialize(content))
    return _renamed(".", match[1], names.classes, names.scope) if match else None


def _pseudo_class(node: Any) -> str | None:
    if node is None:
        return None
    if node.type == "ident":
        return f":{node.lower_value}" if node.lower_value in _PSEUDO_CLASSES else None
    if node.type == "function" and node.lower_name in _COUNTED:
        from tinycss2 import serialize

        count = serialize(node.arguments).strip().lower()
        return f":{node.lower_name}({count})" if _COUNT.fullmatch(count) else None
    return None
