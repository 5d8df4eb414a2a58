"""What an app does by openapi-generator's Python client: list, page, get, flag, search, send, and read a problem.

Arguments: base URL, token. Prints JSON.
"""

from __future__ import annotations

import json
import sys

import postgate_client as postgate


def main(base_url: str, token: str) -> dict[str, object]:
    configuration = postgate.Configuration(host=base_url, access_token=token)
    with postgate.ApiClient(configuration) as client:
        messages, sending = postgate.MessagesApi(client), postgate.SendingApi(client)
        page = messages.list_messages("me", limit=3)
        first = page.items[0].actual_instance
        if not isinstance(first, postgate.MessageSummary):
            raise TypeError(first)
        second = messages.list_messages("me", limit=3, cursor=page.next_cursor)
        full = messages.get_message("me", first.id, view="full").actual_instance
        if not isinstance(full, postgate.MessageFull):
            raise TypeError(full)
        change = postgate.ChangeRequest(keywords=postgate.KeywordChanges(add=["$flagged"]))
        flagged = messages.update_message("me", first.id, change)
        query = postgate.SearchRequest(filter=postgate.FilterInput(var_from=first.var_from[0].address))
        found = messages.search_messages("me", query)
        order = postgate.SendRequest(
            to=[postgate.MessageInputToInner(postgate.AddressInput(address="bob@demo.test"))],
            subject="By the Python client",
            text="Hello",
        )
        sent = sending.send_message("me", order, idempotency_key="python-1")
        again = sending.send_message("me", order, idempotency_key="python-1")
        problem = "none"
        try:
            messages.get_message("me", "msg_unknown")
        except postgate.ApiException as error:
            problem = json.loads(error.body or "{}")["code"]
    return {
        "listed": len(page.items),
        "paged": len(second.items),
        "text": bool(full.text),
        "keywords": flagged.keywords,
        "found": len(found.items),
        "sent": sent.id,
        "again": again.id,
        "problem": problem,
    }


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
