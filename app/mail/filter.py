"""The conditions of a search as a pure tree. The index turns it into SQL; text terms may need the mail server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from app.mail.types import AccountId, MessageId

DEPTH_LIMIT = 20
LEAF_LIMIT = 200


@dataclass(frozen=True, slots=True)
class All:
    """All conditions hold; true if there are none."""

    of: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """At least one condition holds; false if there are none."""

    of: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    of: Filter


@dataclass(frozen=True, slots=True)
class Contains:
    """A header field (subject, from, to, cc or bcc) contains a text, ignoring case."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class Text:
    """A text that the index does not hold: `scope` is "body", "text" (header or body) or "header:Name"."""

    scope: str
    value: str


@dataclass(frozen=True, slots=True)
class IndexedText:
    """A Text of scope "body" or "text", folded, as the full-text index evaluates it for indexed messages."""

    account_id: AccountId
    scope: str
    folded: str


@dataclass(frozen=True, slots=True)
class InMailbox:
    mailbox_id: str


@dataclass(frozen=True, slots=True)
class InMailboxNamed:
    """A mailbox by its role or path, as users write it. It is replaced by an InMailbox before a search."""

    name: str


@dataclass(frozen=True, slots=True)
class ReceivedBetween:
    """`since_ms` is inclusive, `before_ms` exclusive; None means open."""

    since_ms: int | None = None
    before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SizeBetween:
    """Both bounds are exclusive, in bytes; None means open."""

    larger_than: int | None = None
    smaller_than: int | None = None


@dataclass(frozen=True, slots=True)
class HasFlag:
    """An IMAP flag, compared ignoring case."""

    flag: str


@dataclass(frozen=True, slots=True)
class HasAttachments:
    value: bool


@dataclass(frozen=True, slots=True)
class MessageIdHeader:
    value: str


@dataclass(frozen=True, slots=True)
class IsOneOf:
    """The messages that matched a Text."""

    ids: Collection[MessageId]


@dataclass(frozen=True, slots=True)
class Unindexed:
    """The full-text index does not hold the message."""


Filter = (
    All
    | Any
    | Not
    | Contains
    | Text
    | IndexedText
    | InMailbox
    | InMailboxNamed
    | ReceivedBetween
    | SizeBetween
    | HasFlag
    | HasAttachments
    | MessageIdHeader
    | IsOneOf
    | Unindexed
)


def leaves_in(tree: Filter) -> Iterator[Filter]:
    """Yield every condition of a tree that contains no other."""
    match tree:
        case All(of) | Any(of):
            for branch in of:
                yield from leaves_in(branch)
        case Not(of):
            yield from leaves_in(of)
        case _:
            yield tree


def with_leaves(tree: Filter, change: Callable[[Filter], Filter]) -> Filter:
    """Return the tree with each leaf replaced by `change(leaf)`."""
    match tree:
        case All(of):
            return All(tuple(with_leaves(branch, change) for branch in of))
        case Any(of):
            return Any(tuple(with_leaves(branch, change) for branch in of))
        case Not(of):
            return Not(with_leaves(of, change))
        case _:
            return change(tree)


def texts_in(tree: Filter) -> Iterator[Text]:
    """Yield every Text of a tree."""
    return (leaf for leaf in leaves_in(tree) if isinstance(leaf, Text))


def names_mailbox(tree: Filter) -> bool:
    """Whether one of the conditions names a mailbox."""
    return any(isinstance(leaf, InMailbox) for leaf in leaves_in(tree))


def with_answers(tree: Filter, answers: Mapping[Text, Filter], possible: Mapping[Text, Filter] | None = None) -> Filter:
    """Return the tree with each Text replaced by its answer, or by its `possible` one below an odd number of Nots.

    A message that was not examined then matches neither for having a text nor for lacking it.
    """
    possible = answers if possible is None else possible
    match tree:
        case All(of):
            return All(tuple(with_answers(condition, answers, possible) for condition in of))
        case Any(of):
            return Any(tuple(with_answers(condition, answers, possible) for condition in of))
        case Not(of):
            return Not(with_answers(of, possible, answers))
        case Text():
            return answers[tree]
        case _:
            return tree
