"""What an app does by the generated Python client: list, flag, send, and read the result of each.

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
        change = postgate.ChangeRequest(keywords=postgate.KeywordChanges(add=["$flagged"]))
        flagged = messages.update_message("me", first.id, change)
        order = postgate.SendRequest(
            to=[postgate.MessageInputToInner(postgate.AddressInput(address="bob@demo.test"))],
            subject="By the Python client",
            text="Hello",
        )
        sent = sending.send_message("me", order, idempotency_key="python-1")
        again = sending.send_message("me", order, idempotency_key="python-1")
        try:
            messages.get_message("me", "msg_unknown")
        except postgate.ApiException as error:
            problem = json.loads(error.body)["code"]
    return {
        "listed": len(page.items),
        "keywords": flagged.keywords,
        "sent": sent.id,
        "again": again.id,
        "problem": problem,
    }


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
