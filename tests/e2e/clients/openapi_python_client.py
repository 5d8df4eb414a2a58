"""What an app does by the client of openapi-python-client: list, page, get, flag, search, send, and read a problem.

Arguments: base URL, token. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from typing import TypeVar

from postgate_client import AuthenticatedClient
from postgate_client.api.messages import get_message, list_messages, search_messages, update_message
from postgate_client.api.sending import send_message
from postgate_client.models import (
    AddressInput,
    ChangeRequest,
    FilterInput,
    GetMessageView,
    KeywordChanges,
    MessageFull,
    MessagePage,
    MessageSummary,
    Problem,
    SearchRequest,
    SendRequest,
    Submission,
)

T = TypeVar("T")


def the(kind: type[T], answer: object) -> T:
    if not isinstance(answer, kind):
        raise TypeError(answer)
    return answer


def main(base_url: str, token: str) -> dict[str, object]:
    client = AuthenticatedClient(base_url=base_url, token=token)
    page = the(MessagePage, list_messages.sync("me", client=client, limit=3))
    first = the(MessageSummary, page.items[0])
    cursor = the(str, page.next_cursor)
    second = the(MessagePage, list_messages.sync("me", client=client, limit=3, cursor=cursor))
    full = the(MessageFull, get_message.sync("me", first.id, client=client, view=GetMessageView.FULL))
    change = ChangeRequest(keywords=KeywordChanges(add=["$flagged"]))
    flagged = the(MessageSummary, update_message.sync("me", first.id, client=client, body=change))
    query = SearchRequest(filter_=FilterInput(from_=first.from_[0].address))
    found = the(MessagePage, search_messages.sync("me", client=client, body=query))
    order = SendRequest(to=[AddressInput(address="bob@demo.test")], subject="By openapi-python-client", text="Hello")
    sent, again = (
        the(Submission, send_message.sync("me", client=client, body=order, idempotency_key="opc-1")) for _ in range(2)
    )
    problem = the(Problem, get_message.sync("me", "msg_unknown", client=client))
    return {
        "listed": len(page.items),
        "paged": len(second.items),
        "text": bool(full.text),
        "keywords": flagged.keywords,
        "found": len(found.items),
        "sent": sent.id,
        "again": again.id,
        "problem": problem.code,
    }


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
