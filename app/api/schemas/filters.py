"""The filter of a search: a tree of conditions. All conditions of one object must hold."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from app.api.schemas.base import Boolean, GivenDate, GivenTime, Id, Integer, RequestModel
from app.errors import InvalidRequest
from app.mail import filter as f
from app.mail.search_text import ANYWHERE, LENGTH_LIMIT_CHARS, OPERATORS, parse_search_text
from app.mail.types import flag_of

TEXT_LIMIT_CHARS = 500
Text = Annotated[str, StringConstraints(min_length=1, max_length=TEXT_LIMIT_CHARS, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""A search text without control characters, because Postgate may send it to a mail server."""
KEYWORD_PATTERN = r"^[!#$&'+\-./0-9:;<=>?@A-Z\[^_`a-z|}~]{1,100}$"
Keyword = Annotated[str, StringConstraints(pattern=KEYWORD_PATTERN)]
"""`$seen`, `$flagged` … or a custom keyword: an IMAP atom (RFC 9051 §9), compared without regard to case."""


class HeaderCondition(RequestModel):
    """A header field contains a text. An empty text tests whether the field is present."""

    name: Annotated[str, StringConstraints(pattern=r"^[!-9;-~]{1,76}$")]
    value: Annotated[str, StringConstraints(max_length=TEXT_LIMIT_CHARS, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Conditions(RequestModel):
    """Conditions on a message. Texts are compared without regard to case."""

    mailbox_id: Id | None = Field(None, description="An id, or a role's name such as `inbox`")
    from_: Text | None = Field(None, alias="from")
    to: Text | None = None
    cc: Text | None = None
    bcc: Text | None = None
    subject: Text | None = None
    body: Text | None = Field(None, description="In the text of the message")
    text: Text | None = Field(None, description="Anywhere in header or body")
    since: GivenDate | None = Field(None, description="Received at this time or later; a date means midnight UTC")
    before: GivenDate | None = Field(None, description="Received earlier")
    larger_than: Integer | None = Field(None, ge=0, le=2**53, description="Bytes")
    smaller_than: Integer | None = Field(None, ge=0, le=2**53, description="Bytes")
    keyword: Keyword | None = None
    not_keyword: Keyword | None = None
    unread: Boolean | None = None
    flagged: Boolean | None = None
    has_attachments: Boolean | None = None
    message_id_header: Text | None = None

    def leaves(self) -> list[f.Filter]:
        """Return one leaf for each condition."""
        leaves: list[f.Filter] = []
        if self.mailbox_id is not None:
            leaves.append(f.InMailbox(self.mailbox_id))
        for name, value in (
            ("from", self.from_),
            ("to", self.to),
            ("cc", self.cc),
            ("bcc", self.bcc),
            ("subject", self.subject),
        ):
            leaves += [f.Contains(name, value)] if value is not None else []
        return leaves + self._texts() + self._facts()

    def _texts(self) -> list[f.Filter]:
        texts = (("body", self.body), ("text", self.text))
        return [f.Text(scope, value) for scope, value in texts if value is not None]

    def _facts(self) -> list[f.Filter]:
        leaves: list[f.Filter] = []
        if self.since is not None or self.before is not None:
            leaves.append(f.ReceivedBetween(_ms(self.since), _ms(self.before)))
        if self.larger_than is not None or self.smaller_than is not None:
            leaves.append(f.SizeBetween(self.larger_than, self.smaller_than))
        if self.keyword is not None:
            leaves.append(f.HasFlag(flag_of(self.keyword)))
        if self.not_keyword is not None:
            leaves.append(f.Not(f.HasFlag(flag_of(self.not_keyword))))
        leaves += _flag("\\Seen", None if self.unread is None else not self.unread)
        leaves += _flag("\\Flagged", self.flagged)
        if self.has_attachments is not None:
            leaves.append(f.HasAttachments(self.has_attachments))
        if self.message_id_header is not None:
            leaves.append(f.MessageIdHeader(self.message_id_header))
        return leaves


def _flag(flag: str, wanted: bool | None) -> list[f.Filter]:
    if wanted is None:
        return []
    return [f.HasFlag(flag) if wanted else f.Not(f.HasFlag(flag))]


Branches = Annotated[list["FilterInput"], Field(max_length=f.LEAF_LIMIT)]


class FilterInput(Conditions):
    """A filter: conditions, and `all`, `any` or `not` with further filters. An empty filter matches everything."""

    header: HeaderCondition | None = None
    all: Branches | None = None
    any: Branches | None = None
    not_: FilterInput | None = Field(None, alias="not")

    def value(self, pointer: str = "/filter") -> f.Filter:
        """Return the filter tree. Raises InvalidRequest if it is too deep or has too many conditions."""
        tree = self._tree(1, pointer)
        if _size(tree) > f.LEAF_LIMIT:
            raise InvalidRequest.at(pointer, f"Must have at most {f.LEAF_LIMIT} conditions")
        return tree

    def _tree(self, depth: int, pointer: str) -> f.Filter:
        if depth > f.DEPTH_LIMIT:
            raise InvalidRequest.at(pointer, f"Must be nested at most {f.DEPTH_LIMIT} deep")
        leaves = self.leaves()
        if self.header is not None:
            leaves.append(f.Text(f"header:{self.header.name}", self.header.value))
        for number, branch in enumerate(self.all or ()):
            leaves.append(branch._tree(depth + 1, f"{pointer}/all/{number}"))
        if self.any is not None:
            leaves.append(
                f.Any(
                    tuple(branch._tree(depth + 1, f"{pointer}/any/{number}") for number, branch in enumerate(self.any))
                )
            )
        if self.not_ is not None:
            leaves.append(f.Not(self.not_._tree(depth + 1, f"{pointer}/not")))
        return leaves[0] if len(leaves) == 1 else f.All(tuple(leaves))


def _moderate(value: object) -> object:
    """Refuse a tree with too many branches, including empty branches, before Pydantic builds models."""
    count, waiting = 0, [value]
    while waiting:
        branch = waiting.pop()
        if isinstance(branch, dict):
            count += 1
            if count > f.LEAF_LIMIT:
                raise ValueError(f"Must have at most {f.LEAF_LIMIT} branches")
            waiting += [branch[name] for name in ("all", "any", "not") if name in branch]
        elif isinstance(branch, list) and len(branch) <= f.LEAF_LIMIT:
            waiting += branch
        else:  # the model refuses it and names its pointer
            count += f.LEAF_LIMIT - 1
    return value


FilterTree = Annotated[FilterInput, BeforeValidator(_moderate)]
"""The filter of a request, with a limited number of branches."""


SearchTextInput = Annotated[str, StringConstraints(min_length=1, max_length=LENGTH_LIMIT_CHARS)]


class SearchScope(StrEnum):
    """Which mailboxes a search includes beyond the default."""

    ANYWHERE = ANYWHERE


IN_FIELD: Any = Field(
    None, alias="in", description="`anywhere`: includes Trash and Junk, which are omitted unless a mailbox is named"
)


class ConditionsQuery(Conditions):
    """Conditions as query parameters, and a search text."""

    q: SearchTextInput | None = Field(
        None,
        description=f'A search text, such as `from:ann is:unread "trip to Rome" -draft`: words, '
        f'"phrases", `-` to exclude, `OR`, brackets, and the operators `{":` `".join(OPERATORS)}:`',
    )
    in_: SearchScope | None = IN_FIELD
    larger_than: int | None = Field(None, ge=0, le=2**53, description="Bytes")
    smaller_than: int | None = Field(None, ge=0, le=2**53, description="Bytes")
    unread: bool | None = None
    flagged: bool | None = None
    has_attachments: bool | None = None

    def searched(self) -> tuple[f.Filter, bool]:
        """Return the filter, and whether it includes Trash and Junk. Raises InvalidRequest at `q`."""
        leaves = self.leaves()
        tree, is_anywhere = with_search_text(leaves[0] if len(leaves) == 1 else f.All(tuple(leaves)), self.q)
        return tree, is_anywhere or self.in_ is SearchScope.ANYWHERE


def with_search_text(tree: f.Filter, text: str | None) -> tuple[f.Filter, bool]:
    """Combine the filter with the search text; also return whether the text has `in:anywhere`.

    Raises InvalidRequest at `q`.
    """
    if text is None:
        return tree, False
    parsed = parse_search_text(text)
    conditions = (*_conditions(tree), *_conditions(parsed.tree))
    return conditions[0] if len(conditions) == 1 else f.All(conditions), parsed.is_anywhere


def _conditions(tree: f.Filter) -> tuple[f.Filter, ...]:
    return tree.of if isinstance(tree, f.All) else (tree,)


def _size(tree: f.Filter) -> int:
    match tree:
        case f.All(of) | f.Any(of):
            return 1 + sum(_size(condition) for condition in of)
        case f.Not(of):
            return 1 + _size(of)
        case _:
            return 1


def _ms(time: GivenTime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)
