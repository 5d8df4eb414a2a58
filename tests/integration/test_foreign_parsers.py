"""Two foreign parsers, mailparser and postal-mime, read the corpus beside ours: each difference from both is explained.

POSTGATE_MAIL_CORPORA names a folder of more messages (any files below it); their differences are reported, not judged.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from app.mime.enclosed import containers, opened
from app.mime.names import attachment_name
from app.mime.structure import parse_structure
from app.mime.transfer import decode_transfer
from app.services.reading.rendering import attachment_parts, render_body, text_parts

from tests.servers.process import find_program

NODE = Path(__file__).parents[1] / "node"
CORPUS = Path(__file__).parents[1] / "corpus"
MAX_BYTES = 3 * 1024 * 1024
FIELDS = ("subject", "from", "to", "date", "text", "names", "contents")

_LOCAL = "an address without a domain is an address here: that of a local mailbox"
_GUESSED = "8-bit text without a label is guessed by its script; they replace what is not UTF-8"
_ATTACHED = "an attached message is an attachment with the name of its subject; they show its text or have no name"
EXPLAINED: dict[tuple[str, str], str] = {
    ("cron.eml", "from"): _LOCAL,
    ("cron.eml", "to"): _LOCAL,
    ("latin1-headers.eml", "subject"): _GUESSED,
    ("latin1-headers.eml", "text"): _GUESSED,
    ("mailman-digest.eml", "text"): _ATTACHED,
    ("mailman-digest.eml", "names"): _ATTACHED,
    ("mailman-digest.eml", "contents"): _ATTACHED,
    ("no-boundary.eml", "text"): "the words of a multipart without its boundary are shown; they show none",
    ("outlook-related.eml", "subject"): "gb2312 is read as gb18030, as browsers read it, with its four-byte characters",
    ("outlook-related.eml", "text"): "gb2312 is read as gb18030, as browsers read it, with its four-byte characters",
    ("postfix-bounce.eml", "names"): _ATTACHED,
    ("postfix-bounce.eml", "contents"): "an attached message has its bytes; one of them leaves it out, one changes it",
    ("truncated.eml", "names"): "a file name has neither folders nor marks that change its direction",
}
"""(message, field) -> why ours is right."""


def ours(content: bytes) -> dict[str, Any]:
    """What we read of a message, in the shape that the foreign job prints."""
    structure = parse_structure(content).structure
    spans = {part.section: part.span for part in structure.walk() if part.span is not None}
    raw = {section: content[span[1] : span[2]] for section, span in spans.items()}
    found = opened(structure, {part.section: raw[part.section] for part in containers(structure)})
    parts = {**raw, **found.contents}
    body = render_body(
        found.structure, {part.section: parts[part.section] for part in text_parts(found.structure).parts}, {}
    )
    files = []
    for part in attachment_parts(found.structure):
        decoded, _ = decode_transfer(parts[part.section], part.encoding)
        files.append([attachment_name(part) or "", part.media_type, len(decoded), hashlib.sha256(decoded).hexdigest()])
    overview = parse_structure(content).overview
    return {
        "subject": overview.subject,
        "from": [address.address for address in overview.from_],
        "to": [address.address for address in overview.to],
        "date": overview.date_ms,
        "text": body.text,
        "html": body.html or "",
        "files": files,
    }


def comparable(read: Mapping[str, Any] | None, field: str) -> Any:
    """A field without what parsers may spell differently: white space, the case of addresses, milliseconds."""
    if read is None:
        return None
    if field == "names":
        return sorted(file[0] for file in read["files"])
    if field == "contents":
        return sorted(file[3] for file in read["files"])
    value = read[field]
    if field in ("from", "to"):
        return [address.lower() for address in value if address]
    if field == "date":
        return value // 1000 if value else None
    return " ".join(str(value).split())


def differences(paths: list[Path]) -> Iterator[tuple[Path, str, Any, Any, Any]]:
    """(message, field, our value, mailparser's, postal-mime's) where ours is neither's; texts that they lack too."""
    answer = subprocess.run(
        [find_program("node"), "parsers_job.mjs"],
        cwd=NODE,
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    for line in answer.stdout.rstrip("\n").split("\n"):  # JSON has other line separators inside
        foreign = json.loads(line)
        path = Path(foreign["path"])
        read = ours(path.read_bytes())
        for field in FIELDS:
            values = [comparable(one, field) for one in (read, foreign["mailparser"], foreign["postal"])]
            is_from_html = field == "text" and read["html"] and not (values[1] and values[2])
            if values[0] not in values[1:] and not is_from_html:
                yield (path, field, *values)


def test_each_difference_from_both_foreign_parsers_is_explained() -> None:
    paths = sorted(CORPUS.rglob("*.eml"))

    found = list(differences(paths))

    assert paths
    unexplained = [one for one in found if (one[0].name, one[1]) not in EXPLAINED]
    assert unexplained == []
    assert {(path.name, field) for path, field, *_ in found} == EXPLAINED.keys()


@pytest.mark.skipif("POSTGATE_MAIL_CORPORA" not in os.environ, reason="POSTGATE_MAIL_CORPORA names no folder")
def test_other_corpora_are_read_and_their_differences_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for path in sorted(Path(os.environ["POSTGATE_MAIL_CORPORA"]).rglob("*")) if path.is_file()]
    paths = [path for path in files if 0 < path.stat().st_size <= MAX_BYTES]

    found = list(differences(paths))

    with capsys.disabled():
        print(f"\n{len(paths)} messages", dict(Counter(field for _, field, *_ in found)))  # noqa: T201 - a report
        for path, field, *values in found:
            print(field, path.name, *(f"\n    {str(value)[:200]}" for value in values))  # noqa: T201
    assert paths
