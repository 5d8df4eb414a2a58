"""Threads by RFC 5256 §3, compared with its steps written down as they stand there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from app.servers.imap import forest as module
from app.servers.imap.forest import Forest, ThreadedMessage
from app.servers.imap.merging import RUN_UNITS, RUN_VALUES
from app.servers.pace import Yielding
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cpu import at_most_cpu_seconds


def threads(messages: Sequence[ThreadedMessage], *, by_subject: bool = False, pace: Yielding | None = None) -> str:
    async def grow() -> str:
        forest = Forest(pace or Yielding())
        for message in messages:
            if by_subject:
                forest.add(message)
            else:
                forest.add_linked(message)
        await (forest.by_subject() if by_subject else forest.by_references())
        return b"".join(forest.written(lambda uid: uid)).decode().lstrip()

    return asyncio.run(grow())


def message(
    uid: int, base: str = "", *ancestors: str, at: int | None = None, is_answer: bool = False
) -> ThreadedMessage:
    return ThreadedMessage(uid, uid if at is None else at, base, is_answer, f"<{uid}>", ancestors)


# ---- by subject


def test_messages_of_a_subject_hang_on_the_first_sent() -> None:
    mail = [message(1, "a", at=5), message(2, "b"), message(3, "a", at=4), message(4, "a", at=9)]

    assert threads(mail, by_subject=True) == "(2)(3 (1)(4))"
    assert threads(mail[:3], by_subject=True) == "(2)(3 1)"
    assert threads([], by_subject=True) == ""


# ---- by references


@pytest.mark.parametrize(
    ("mail", "expected"),
    [
        ([message(1), message(2, "", "<1>"), message(3, "", "<1>", "<2>")], "(1 2 3)"),
        ([message(3, "", "<1>", "<2>"), message(2, "", "<1>"), message(1)], "(1 2 3)"),
        ([message(1), message(2, "", "<1>"), message(3, "", "<1>")], "(1 (2)(3))"),
        ([message(1), message(2, "", "<1>", at=9), message(3, "", "<1>"), message(4, "", "<2>")], "(1 (3)(2 4))"),
        ([message(2, "", "<1>"), message(3, "", "<1>")], "((2)(3))"),
        ([message(2, "", "<1>"), message(3, "", "<2>")], "(2 3)"),
        ([message(3, "", "<1>", "<2>"), message(4, "", "<1>", "<2>")], "((3)(4))"),
        ([message(1, "", "<2>"), message(2, "", "<1>")], "(2 1)"),
        ([message(1, "", "<1>")], "(1)"),
        ([message(1), message(2, "", "<1>"), ThreadedMessage(3, 3, "", False, "<1>")], "(1 2)(3)"),
        ([message(1, "a"), message(2, "a")], "((1)(2))"),
        ([message(1, "a"), message(2, "a", is_answer=True)], "(1 2)"),
        ([message(1, "a", is_answer=True), message(2, "a")], "(2 1)"),
        ([message(1, "a"), message(2, "a"), message(3, "a")], "((1)(2)(3))"),
        ([message(2, "a", "<1>"), message(3, "a", "<1>"), message(4, "a")], "((2)(3)(4))"),
        ([message(1, ""), message(2, "")], "(1)(2)"),
    ],
)
def test_messages_hang_on_what_they_answer(mail: list[ThreadedMessage], expected: str) -> None:
    assert threads(mail) == expected


@dataclass(eq=False)
class Node:
    message: ThreadedMessage | None = None
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)

    def hang(self, parent: Node | None) -> None:
        if self.parent is not None:
            self.parent.children.remove(self)
        self.parent = parent
        if parent is not None:
            parent.children.append(self)

    def is_in(self, other: Node | None) -> bool:
        """Whether this is `other` or above it."""
        while other is not None and other is not self:
            other = other.parent
        return other is self

    @property
    def first(self) -> ThreadedMessage:
        return self.message or min(self.children, key=lambda child: child.when).first

    @property
    def when(self) -> tuple[int, int]:
        return self.first.sent_at_ms, self.first.uid


def rfc_5256(messages: Sequence[ThreadedMessage]) -> str:
    nodes: dict[str, Node] = {}
    for message in messages:
        _step_1(message, nodes)
    roots = [node for node in nodes.values() if node.parent is None]
    top = Node()
    for root in roots:
        root.hang(top)
    _step_3(top, top)
    _step_5(top)
    return "".join(_text(child) for child in sorted(top.children, key=lambda child: child.when))


def _step_1(message: ThreadedMessage, nodes: dict[str, Node]) -> None:
    above: Node | None = None
    for name in message.ancestors:
        node = nodes.setdefault(name, Node())
        if above is not None and node.parent is None and not node.is_in(above):
            node.hang(above)
        above = node
    name = message.message_id or f"none {message.uid}"
    own = nodes.setdefault(name, Node())
    if own.message is not None:
        own = nodes[f"again {message.uid}"] = Node()
    own.message = message
    own.hang(None)
    if above is not None and not own.is_in(above):
        own.hang(above)


def _step_3(node: Node, top: Node) -> None:
    for child in list(node.children):
        _step_3(child, top)
        if child.message is None and (not child.children or node is not top or len(child.children) == 1):
            for grandchild in list(child.children):
                grandchild.hang(node)
            child.hang(None)


def _step_5(top: Node) -> None:
    table: dict[str, Node] = {}
    ordered = sorted(top.children, key=lambda child: child.when)
    subjects = {child: child.first.base for child in ordered}
    for child in ordered:
        known = table.get(subjects[child])
        if known is None or (
            known.message is not None
            and (child.message is None or (known.message.is_answer and not child.message.is_answer))
        ):
            table[subjects[child]] = child
    for child in ordered:
        known = table[subjects[child]]
        if subjects[child] == "" or known is child:
            continue
        if known.message is None and child.message is None:
            for grandchild in list(child.children):
                grandchild.hang(known)
            child.hang(None)
        elif known.message is None or (
            child.message is not None and child.message.is_answer and not known.message.is_answer
        ):
            child.hang(known)
        else:
            dummy = Node()
            dummy.hang(top)
            known.hang(dummy)
            child.hang(dummy)
            table[subjects[child]] = dummy


def _text(node: Node) -> str:
    return f"({_members(node)})"


def _members(node: Node) -> str:
    children = sorted(node.children, key=lambda child: child.when)
    below = _members(children[0]) if len(children) == 1 else "".join(map(_text, children))
    return " ".join(part for part in (str(node.message.uid) if node.message else "", below) if part)


@st.composite
def mails(draw: st.DrawFn) -> list[ThreadedMessage]:
    names = st.integers(1, 12).map("<{}>".format)
    count = draw(st.integers(0, 12))
    ids = draw(st.permutations(range(1, 13)))
    return [
        ThreadedMessage(
            uid,
            draw(st.integers(1, 5)),
            draw(st.sampled_from(["", "", "a", "b"])),
            draw(st.booleans()),
            draw(st.sampled_from([f"<{ids[uid - 1]}>", f"<{ids[uid - 1]}>", "<1>", None])),
            tuple(draw(st.lists(names, max_size=4))),
        )
        for uid in range(1, count + 1)
    ]


@pytest.mark.slow
@settings(max_examples=400)
@given(mails())
def test_threads_are_those_of_the_steps_of_the_rfc(mail: list[ThreadedMessage]) -> None:
    assert threads(mail) == rfc_5256(mail)


# ---- bounds


CHAINS = {
    "each answers the one before": lambda count: [message(uid, "", f"<{uid - 1}>") for uid in range(1, count)],
    "each is answered by the one before": lambda count: [message(uid, "", f"<{uid + 1}>") for uid in range(1, count)],
    "all answer one": lambda count: [message(uid, "", "<1>") for uid in range(2, count)],
    "all have one subject": lambda count: [message(uid, "a") for uid in range(1, count)],
    "each names fifty that are not there": lambda count: [
        message(uid, "", *(f"<{uid}.{place}>" for place in range(50))) for uid in range(1, count // 10)
    ],
}


@pytest.mark.parametrize("shape", CHAINS)
def test_a_thread_of_any_shape_is_found_in_slices(shape: str) -> None:
    mail = CHAINS[shape](20_000)
    pace = Counted()

    with at_most_cpu_seconds(5):
        text = threads(mail, pace=pace)

    assert all(str(one.uid) in text for one in mail[:: len(mail) // 50])
    assert max(pace.spent) <= RUN_UNITS
    assert len(pace.spent) >= 3 * len(mail) // RUN_VALUES


class Counted(Yielding):
    """Notes how much is done at a time."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        super().__init__()
        self.spent: list[int] = []

    async def spend(self, units: int) -> None:
        self.spent.append(units)
        await super().spend(units)


def test_messages_that_are_only_named_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DUMMIES_LIMIT", 2)
    mail = [message(uid, "", f"<{uid % 4 + 90}>") for uid in range(1, 9)]

    assert threads(mail) == "((1)(5))((2)(6))(3)(4)(7)(8)"
