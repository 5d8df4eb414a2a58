"""Builds the threads of THREAD (RFC 5256 §3): ORDEREDSUBJECT and REFERENCES.

Messages are nodes, numbered from 0, in arrays: a mailbox of 146,000 messages takes a few megabytes and no objects for
the garbage collector. The work is done in slices, between which other tasks run. Message-IDs and subjects are compared
by their hashes.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from app.servers.imap.merging import RUN_UNITS, RUN_VALUES, Key, merged
from app.servers.pace import Yielding

REFERENCES_LIMIT = 50
"""The number of a message's references that are used: its nearest ancestors."""
DUMMIES_LIMIT = 500_000
"""The largest number of dummies, which stand for referenced messages that do not exist; more are ignored."""
ANCESTORS_LIMIT = 1_000
"""Ancestors that are searched for a loop; a reference that needs more is ignored."""

NONE = -1


@dataclass(frozen=True, slots=True)
class ThreadedMessage:
    """A message to thread. `base` is the folded base subject; `ancestors` are Message-IDs, the parent last."""

    uid: int
    sent_at_ms: int
    base: str
    is_answer: bool
    message_id: str | None = None
    ancestors: Sequence[str] = ()


class Forest:
    """Nodes with their parents, and after `_arrange` also the sorted children and roots."""

    def __init__(self, pace: Yielding) -> None:
        self._pace = pace
        self._uids = array("I")
        """0 for a dummy, a message that does not exist."""
        self._sent_at = array("q")
        self._bases = array("q")
        """0 for an empty subject."""
        self._answers = bytearray()
        self._parents = array("i")
        self._degrees = array("i")
        """The number of children of a node."""
        self._by_id: dict[int, int] = {}
        self._dummies = 0
        self._children = array("i")
        self._starts = array("i")
        self._roots = array("i")

    # ---- nodes and links

    def _new_node(self, message: ThreadedMessage | None = None) -> int:
        self._uids.append(0)
        self._sent_at.append(0)
        self._bases.append(0)
        self._answers.append(False)
        self._parents.append(NONE)
        self._degrees.append(0)
        node = len(self._uids) - 1
        if message is None:
            self._dummies += 1
        else:
            self._fill(node, message)
        return node

    def _fill(self, node: int, message: ThreadedMessage) -> None:
        self._uids[node] = message.uid
        self._sent_at[node] = message.sent_at_ms
        self._bases[node] = hash(message.base) if message.base else 0
        self._answers[node] = message.is_answer

    def add(self, message: ThreadedMessage) -> int:
        """Add a message without its references; return its node."""
        return self._new_node(message)

    def add_linked(self, message: ThreadedMessage) -> int:
        """Add a message and link it with its references (step 1 of REFERENCES); return the number of steps."""
        steps = 1
        ancestor = NONE
        for name in message.ancestors[-REFERENCES_LIMIT:]:
            node = self._named(name)
            if node != NONE:
                if ancestor != NONE and self._parents[node] == NONE:
                    steps += self._link(ancestor, node)
                ancestor = node
        own = self._own_node(message)
        self._unlink(own)
        return steps + (self._link(ancestor, own) if ancestor != NONE else 0)

    def _named(self, message_id: str) -> int:
        key = hash(message_id)
        node = self._by_id.get(key, NONE)
        if node == NONE and self._dummies < DUMMIES_LIMIT:
            node = self._by_id[key] = self._new_node()
        return node

    def _own_node(self, message: ThreadedMessage) -> int:
        """Return the message's node. If messages have the same Message-ID, only the first counts as having it."""
        if message.message_id is None:
            return self._new_node(message)
        key = hash(message.message_id)
        node = self._by_id.get(key)
        if node is None:
            node = self._by_id[key] = self._new_node(message)
        elif self._uids[node]:
            node = self._new_node(message)
        else:
            self._fill(node, message)
            self._dummies -= 1
        return node

    def _unlink(self, node: int) -> None:
        if self._parents[node] != NONE:
            self._degrees[self._parents[node]] -= 1
            self._parents[node] = NONE

    def _link(self, parent: int, child: int) -> int:
        """Link a child to a parent unless that makes a loop; return the number of steps."""
        steps = 0
        if self._degrees[child] or parent == child:
            ancestor = parent
            while ancestor not in (NONE, child) and steps < ANCESTORS_LIMIT:
                ancestor = self._parents[ancestor]
                steps += 1
            if ancestor != NONE:
                return steps
        self._parents[child] = parent
        self._degrees[parent] += 1
        return steps

    # ---- the two algorithms

    async def by_subject(self) -> None:
        """ORDEREDSUBJECT: the first message of a subject is the parent of the others."""
        first: dict[int, int] = {}
        nodes = ((self._sent_at[node], self._uids[node], node) for node in range(len(self._uids)))
        async for node in self._sorted(nodes):
            root = first.setdefault(self._bases[node], node)
            if root != node:
                self._parents[node] = root
        await self._arrange()

    async def by_references(self) -> None:
        """REFERENCES, steps 2 to 6."""
        await self._prune()
        await self._arrange()
        await self._merge_subjects()
        await self._arrange()

    async def _slices(self) -> AsyncIterator[range]:
        count = len(self._uids)
        for start in range(0, count, RUN_VALUES):
            yield range(start, min(start + RUN_VALUES, count))
            await self._pace.spend(RUN_UNITS)

    async def _prune(self) -> None:
        """Step 3: make each message a child of its nearest existing ancestor, or of the dummy at the root."""
        self._degrees = array("i", bytes(4 * len(self._uids)))
        async for nodes in self._slices():
            for node in nodes:
                if self._uids[node]:
                    parent = self._parents[node] = await self._anchor_of(node)
                    if parent != NONE:
                        self._degrees[parent] += 1
        async for nodes in self._slices():
            for node in nodes:
                parent = self._parents[node]
                if self._uids[node] and parent != NONE and not self._uids[parent] and self._degrees[parent] == 1:
                    self._parents[node] = NONE

    async def _anchor_of(self, node: int) -> int:
        passed: list[int] = []
        anchor = self._parents[node]
        while anchor != NONE and not self._uids[anchor] and self._parents[anchor] != NONE:
            passed.append(anchor)
            anchor = self._parents[anchor]
            if len(passed) % RUN_VALUES == 0:
                await self._pace.spend(RUN_UNITS)
        for dummy in passed:
            self._parents[dummy] = anchor
        return anchor

    async def _merge_subjects(self) -> None:
        """Step 5: merge threads with the same base subject."""
        table: dict[int, int] = {}
        for place, root in enumerate(self._roots):
            base = self._bases[self._first_message(root)]
            if base and (base not in table or self._is_better(root, table[base])):
                table[base] = root
            if place % RUN_VALUES == 0:
                await self._pace.spend(RUN_UNITS)
        for place, root in enumerate(self._roots):
            base = self._bases[self._first_message(root)]
            if base and table[base] != root:
                table[base] = self._merged(table[base], root)
            if place % RUN_VALUES == 0:
                await self._pace.spend(RUN_UNITS)

    def _first_message(self, root: int) -> int:
        return root if self._uids[root] else self._children[self._starts[root]]

    def _is_better(self, root: int, known: int) -> bool:
        """Whether a root should replace the known root of its subject: dummies first, then non-replies."""
        if not self._uids[known]:
            return False
        return not self._uids[root] or bool(self._answers[known] and not self._answers[root])

    def _merged(self, known: int, root: int) -> int:
        """Merge the thread of `root` into the known thread of its subject; return the subject's new root."""
        is_known_dummy, is_dummy = not self._uids[known], not self._uids[root]
        if is_known_dummy and is_dummy:
            for child in self._children_of(root):
                self._parents[child] = known
            return known
        if is_known_dummy or (self._answers[root] and not self._answers[known]):
            self._parents[root] = known
            return known
        dummy = self._new_node()
        self._parents[known] = self._parents[root] = dummy
        return dummy

    # ---- order

    async def _sorted(self, keys: Iterable[tuple[int, ...]]) -> AsyncIterator[int]:
        """Yield the nodes, which are the last number of each key, in the order of the keys."""
        remaining = iter(keys)
        runs: list[list[Key]] = []
        while run := list[Key](sorted(islice(remaining, RUN_VALUES))):
            runs.append(run)
            await self._pace.spend(RUN_UNITS)
        async for *_, node in merged(runs, self._pace):
            assert isinstance(node, int)
            yield node

    async def _arrange(self) -> None:
        """Sort siblings and roots by sent time; a dummy counts as its first child (steps 4 and 6)."""
        children, starts = array("i"), array("i", [0])
        async for node in self._sorted(self._sibling_keys()):
            parent = self._parents[node]
            starts.extend([len(children)] * (parent + 1 - len(starts)))
            children.append(node)
        missing = len(self._uids) + 1 - len(starts)
        self._children, self._starts = children, starts + array("i", [len(children)]) * missing
        self._roots = array("i")
        async for root in self._sorted(self._root_keys()):
            self._roots.append(root)

    def _sibling_keys(self) -> Iterator[tuple[int, ...]]:
        for node, (uid, parent) in enumerate(zip(self._uids, self._parents, strict=True)):
            if uid and parent != NONE:
                yield parent, self._sent_at[node], uid, node

    def _root_keys(self) -> Iterator[tuple[int, ...]]:
        for node, uid in enumerate(self._uids):
            is_root = self._parents[node] == NONE if uid else len(self._children_of(node)) > 0
            if is_root:
                first = self._first_message(node)
                yield self._sent_at[first], self._uids[first], node

    def _children_of(self, node: int) -> Sequence[int]:
        return self._children[self._starts[node] : self._starts[node + 1]]

    # ---- the response

    def written(self, number_of: Callable[[int], int]) -> Iterator[bytes]:
        """Yield the text after `* THREAD`, in small pieces; `number_of` returns the number of a UID."""
        if self._roots:
            yield b" "
        for root in self._roots:
            waiting: list[int] = [root]
            while waiting:
                node = waiting.pop()
                if node == NONE:
                    yield b")"
                    continue
                waiting.append(NONE)
                yield from self._chain(node, waiting, number_of)

    def _chain(self, node: int, waiting: list[int], number_of: Callable[[int], int]) -> Iterator[bytes]:
        """Yield "(" and messages while each has one child; add the children of the last to `waiting`."""
        yield b"("
        children: Sequence[int] = (node,)
        is_first = True
        while len(children) == 1:
            node = children[0]
            children = self._children_of(node)
            if self._uids[node]:
                yield b"%d" % number_of(self._uids[node]) if is_first else b" %d" % number_of(self._uids[node])
                is_first = False
        if children:
            yield b"" if is_first else b" "
            waiting.extend(reversed(children))
