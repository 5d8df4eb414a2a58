"""What users and developers read is plain English: no idioms that have a simpler form.

The phrases below have no good use in technical English. Write the subject, the verb and the object instead.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]

BANNED = [
    (r"anew", "again"),
    (r"who(m?)ever", "anyone who, the client that"),
    (r"whatever (it|its|they|he|she|became|a|the)", "any"),
    (r"as told|(is|are|was|were|be|being|been) told", "reported, notified, informed"),
    (r"told (as|by|of|when|without|to|one)", "reported"),
    (r"tells? of", "reports, announces"),
    (r"kept here|lives? here|lives with us", "embedded, stored"),
    (r"lives? elsewhere", "external"),
    (r"hears? (of|what)|heard (of|what)", "is notified of"),
    (r"knows of", "has"),
    (r"one who|those who", "a client that, users who"),
    (r"there is no such", "… does not exist, unknown …"),
    (r"(this|that|it) is no(?! (longer|more|less)) \w+", "is not a, invalid"),
    (r"(is|are) no (address|name|date|number|id|part|token|event|setting|mailbox|host|text|time)", "is not a"),
    (r"unasked", "in the background"),
    (r"became of|becomes of", "happened to, the result of"),
    (r"lets? go of", "deletes, releases"),
    (r"in spite of", "despite"),
    (r"is yet to|are yet to", "has not … yet"),
    (r"by chance", "at random"),
    (r"is due of|are due of", "is due for"),
    (r"stands? still", "does not change"),
    (r"for want of", "because … is missing"),
]
PATTERN = re.compile(r"\b(" + "|".join(phrase for phrase, _ in BANNED) + r")\b", re.IGNORECASE)


def _found(text: str) -> list[str]:
    return [match.group() for match in PATTERN.finditer(re.sub(r"\s+", " ", re.sub(r"`[^`]*`", "``", text)))]


def _prose(source: str) -> Iterator[str]:
    """Docstrings and other free-standing strings, comments, and strings of several words."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value
    comments = [
        token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    yield "\n".join(comments)


def _markdown() -> list[Path]:
    skipped = {".venv", ".tools", "node_modules", "build"}
    return sorted(path for path in ROOT.rglob("*.md") if not skipped & set(path.relative_to(ROOT).parts))


def _packages() -> list[Path]:
    """The folders and modules of the application."""
    return sorted(path for path in (ROOT / "app").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists())


def _texts(node: object) -> Iterator[str]:
    """The descriptions and titles of an OpenAPI or AsyncAPI document."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("description", "summary", "title") and isinstance(value, str):
                yield value
            else:
                yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


@pytest.mark.parametrize("path", _markdown(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_has_a_banned_idiom(path: Path) -> None:
    assert _found(path.read_text()) == []


def test_the_description_of_the_api_has_no_banned_idiom() -> None:
    openapi = json.loads((ROOT / "openapi" / "openapi.json").read_text())
    asyncapi = yaml.safe_load((ROOT / "openapi" / "asyncapi.yaml").read_text())

    assert [idiom for text in (*_texts(openapi), *_texts(asyncapi)) for idiom in _found(text)] == []


@pytest.mark.parametrize("path", _packages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_docstring_comment_or_message_has_a_banned_idiom(path: Path) -> None:
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))

    assert [(file.name, idiom) for file in files for text in _prose(file.read_text()) for idiom in _found(text)] == []
