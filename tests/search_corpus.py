"""Messages that make a search difficult, and the terms and filters to search them by; made from a seed."""

from __future__ import annotations

import base64
import quopri
import random
from collections.abc import Callable, Iterator
from typing import Any

WORDS = (
    "apple banana cherry invoice meeting Berlin report quarter 2024 zebra alpha beta gamma total EUR price",
    "urgent lunch tomorrow project status review draft final release server backup node error timeout queue",
)
VOCABULARY = " ".join(WORDS).split()
ACCENTED = ("Café", "naïve", "Zürich", "straße", "Ångström", "ﬁnal", "Ｗide", "İstanbul", "日本語", "résumé")
CHARSETS = ("utf-8", "iso-8859-1", "windows-1252", "us-ascii", "iso-8859-15", "koi8-r", "shift_jis", "x-none")

Header = list[tuple[bytes, bytes]]
Pair = tuple[dict[str, Any], str]
"""A filter of the API, and the IMAP SEARCH program that says the same."""


class Corpus:
    """Random messages. The same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def message(self, number: int) -> bytes:
        fields = [
            (b"From", self._address()),
            (b"To", b", ".join(self._address() for _ in range(self._random.randint(1, 3)))),
            (b"Subject", self._header_text()),
            (b"Message-ID", f"<{number}.search@elsewhere.test>".encode()),
            (b"Date", b"Mon, 1 Jan 2024 09:00:00 +0000"),
        ]
        if self._random.random() < 0.3:
            fields.append((b"Cc", self._address()))
        if self._random.random() < 0.3:
            fields.append((b"X-Note", self._header_text()))
        part, body = self._entity(0)
        self._random.shuffle(fields)
        return _lines([*fields, (b"MIME-Version", b"1.0"), *part]) + b"\r\n" + body

    def terms(self) -> Iterator[str]:
        """Terms in ASCII, of which many are in the messages: words, parts of words, words with what is between them."""
        while True:
            word = self._random.choice((*VOCABULARY, "Caf", "stra", "Wide", "nbul", "text/html", "charset=", "resume"))
            kind = self._random.randrange(6)
            if kind == 0:
                yield word.upper()
            elif kind == 1:
                start = self._random.randrange(len(word))
                yield word[start : start + self._random.randint(1, 5)]
            elif kind == 2:
                yield f"{word} {self._random.choice(VOCABULARY)}"
            elif kind == 3:
                yield f"{word[-2:]} {self._random.choice(VOCABULARY)[:2]}"
            elif kind == 4:
                yield self._random.choice(
                    ("<p>", "</b>", "&amp;", "=20", "x-note", "part", ": ", "@", ".test", "name=")
                )
            else:
                yield word

    # ---- the parts of a message

    def _text(self, words: int | None = None) -> str:
        count = words or self._random.randint(1, 40)
        chosen = [self._random.choice(ACCENTED if self._random.random() < 0.1 else VOCABULARY) for _ in range(count)]
        return "".join(
            word + self._random.choice((" ", " ", " ", "  ", "\t", "\r\n", " \r\n", ", ")) for word in chosen
        )

    def _header_text(self) -> bytes:
        text = " ".join(self._text(self._random.randint(1, 6)).split())
        kind = self._random.randrange(4)
        if kind == 0:
            return b"=?utf-8?b?" + base64.b64encode(text[:30].encode()) + b"?="
        if kind == 1:
            words = [quopri.encodestring(word.encode(), header=True) for word in text.split()[:4]]
            return b"\r\n ".join(b"=?UTF-8?Q?" + word + b"?=" for word in words)
        if kind == 2:
            return text.encode().replace(b" ", b"\r\n ", 1)
        return text.encode("ascii", "ignore")

    def _address(self) -> bytes:
        word = self._random.choice(VOCABULARY)
        name = self._random.choice((word, f'"{word}, Jr."', "", f"=?utf-8?q?{word}_=C3=A9?=", f"{word} Q. Public"))
        return f"{name} <{word.lower()}@{self._random.choice(VOCABULARY).lower()}.test>".strip().encode()

    def _entity(self, depth: int) -> tuple[Header, bytes]:
        makers: list[Callable[[int], tuple[Header, bytes]]] = [self._plain, self._plain, self._html, self._broken]
        if depth < 3:
            makers += [self._multipart, self._multipart]
        if depth:
            makers += [self._binary, self._attached, self._plain_attachment, self._plain_without_header]
        return self._random.choice(makers)(depth)

    def _plain(self, _: int) -> tuple[Header, bytes]:
        charset = self._random.choice(CHARSETS)
        flowed = self._random.choice((b"", b"; format=flowed"))
        return self._encoded(b"text/plain; charset=" + charset.encode() + flowed, self._bytes(self._text(), charset))

    def _html(self, _: int) -> tuple[Header, bytes]:
        words = self._text().split()
        text = "<html><body>" + "".join(f"<p>{word}<b>{word[:2]}</b>&amp;" for word in words) + "</body></html>"
        return self._encoded(b"text/html; charset=utf-8", text.encode())

    def _binary(self, _: int) -> tuple[Header, bytes]:
        kind = self._random.choice((b"application/octet-stream", b"image/png", b"application/json", b"x/y"))
        return self._encoded(kind + b'; name="part.bin"', self._text().encode())

    def _plain_attachment(self, _: int) -> tuple[Header, bytes]:
        fields, body = self._encoded(b"text/x-log", self._text().encode())
        return [*fields, (b"Content-Disposition", b'attachment; filename="part name.log"')], body

    def _plain_without_header(self, _: int) -> tuple[Header, bytes]:
        return [], self._text().encode()

    def _attached(self, depth: int) -> tuple[Header, bytes]:
        part, body = self._entity(depth + 1)
        fields = [(b"Subject", self._header_text()), (b"From", self._address()), *part]
        return [(b"Content-Type", b"message/rfc822")], _lines(fields) + b"\r\n" + body

    def _multipart(self, depth: int) -> tuple[Header, bytes]:
        boundary = b"b%d" % self._random.randrange(10**9)
        kinds = [b"mixed", b"alternative", b"related", b"digest"]
        pieces = [self._text(3).encode() + b"\r\n"]
        for _ in range(self._random.randint(1, 4)):
            part, body = self._entity(depth + 1)
            if not part and b"digest" in kinds:
                kinds.remove(b"digest")  # there the part is a message without a header, which is shown as text
            pieces.append(b"--" + boundary + b"\r\n" + _lines(part) + b"\r\n" + body + b"\r\n")
        if self._random.random() < 0.9:
            pieces.append(b"--" + boundary + b"--\r\n" + self._text(3).encode())
        kind = self._random.choice(kinds)
        return [(b"Content-Type", b"multipart/" + kind + b'; boundary="' + boundary + b'"')], b"".join(pieces)

    def _broken(self, _: int) -> tuple[Header, bytes]:
        body = self._text().encode()
        return self._random.choice(
            (
                ([(b"Content-Type", b"multipart/mixed")], body),
                ([(b"Content-Type", b"text/plain; charset")], body),
                ([(b"Content-Type", b"text/plain"), (b"Content-Transfer-Encoding", b"x-uuencode")], body),
                ([(b"Content-Type", b"text/plain"), (b"Content-Transfer-Encoding", b"Quoted-Printable")], body),
                ([(b"Content-Type", b"message/delivery-status")], b"Status: 5.1.1\r\n\r\n" + body),
                ([], body),
            )
        )

    def _encoded(self, content_type: bytes, content: bytes) -> tuple[Header, bytes]:
        encoding = self._random.choice((b"base64", b"quoted-printable", b"8bit", b""))
        fields = [(b"Content-Type", content_type)]
        if encoding:
            fields.append((b"Content-Transfer-Encoding", encoding))
        if encoding == b"base64":
            return fields, base64.encodebytes(content).replace(b"\n", b"\r\n")
        if encoding == b"quoted-printable":
            return fields, quopri.encodestring(content.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
        return fields, content.replace(b"\x00", b"")

    def _bytes(self, text: str, charset: str) -> bytes:
        try:
            return text.encode(charset, "ignore")
        except LookupError:
            return text.encode()


def _lines(fields: Header) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in fields)


def filters(corpus: Corpus, seed: int) -> Iterator[Pair]:
    """Filters, endlessly. The same seed makes the same ones."""
    filters = _Filters(corpus, seed)
    while True:
        yield filters.tree(2)


class _Filters:
    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._random = random.Random(seed)
        self._terms = corpus.terms()

    def tree(self, depth: int) -> Pair:
        kind = self._random.randrange(4 if depth else 1)
        if kind == 0:
            return self._leaf()
        left = self.tree(depth - 1)
        if kind == 1:
            return {"not": left[0]}, f"NOT {left[1]}"
        right = self.tree(depth - 1)
        if kind == 2:
            return {"any": [left[0], right[0]]}, f"OR {left[1]} {right[1]}"
        return {"all": [left[0], right[0]]}, f"({left[1]} {right[1]})"

    def _leaf(self) -> Pair:
        term = next(self._terms)
        key = self._random.choice(("body", "text", "text", "subject", "from", "to", "header"))
        if key == "header":
            name = self._random.choice(("X-Note", "Message-ID", "Content-Type", "Subject"))
            return {"header": {"name": name, "value": term}}, f"HEADER {name} {quoted(term)}"
        if key in ("from", "to"):
            term = self._random.choice(VOCABULARY)
        return {key: term}, f"{key.upper()} {quoted(term)}"


def quoted(term: str) -> str:
    return '"' + term.replace("\\", "\\\\").replace('"', '\\"') + '"'
