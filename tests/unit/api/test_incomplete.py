"""What a mail server does not return is named on the account, the mailbox and the subscription."""

from __future__ import annotations

from typing import Any, cast

from app.api.schemas.stream import SubscribeFrame
from app.api.stream.following import Following
from app.api.stream.socket import StreamSocket
from app.api.stream.subscribing import Subscribing
from app.mail.delta import Arrived, Delta, Location, MailboxTroubled
from app.mail.types import MailboxId, Overview

from tests.access import ADMIN
from tests.unit.api.mail import Mail
from tests.unit.api.stream.test_following import RecordingSocket

REASON = "the mail server did not return this message: broken"


async def break_two(mail: Mail) -> tuple[str, str, str]:
    """A message of INBOX and the whole of Archive are not returned: (inbox, archive, message)."""
    inbox, archive = [MailboxId(await mail.mailbox_id(path)) for path in ("INBOX", "Archive")]
    facts: dict[str, Any] = {"problems": (REASON,), "unread": REASON, "preview": ""}
    row = Arrived(inbox, 0, frozenset(), 1_000, 0, Overview(), None, **facts)
    delta = Delta(arrived=(row,), mailboxes_troubled=(MailboxTroubled(archive, "It cannot be opened"),))
    applied = await mail.gateway.harness.index.apply(mail.account_id, delta)
    return inbox, archive, applied.message_ids[Location(inbox, 1)]


async def test_an_account_names_what_its_server_does_not_return(mail: Mail) -> None:
    assert (await mail.client.get("/v1/me")).json()["sync"]["incomplete"] == 0
    inbox, archive, message_id = await break_two(mail)

    one = (await mail.client.get("/v1/me")).json()
    [listed] = (await mail.gateway.admin.get("/v1/accounts")).json()["items"]

    assert one["sync"]["status"] == "live"
    assert one["sync"]["incomplete"] == 2
    assert one["sync"]["incomplete_mailboxes"] == [
        {"id": archive, "name": "Archive", "problem": "It cannot be opened", "messages": 0, "message_ids": []},
        {"id": inbox, "name": "INBOX", "problem": None, "messages": 1, "message_ids": [message_id]},
    ]
    assert listed["sync"]["incomplete"] == 2


async def test_a_mailbox_says_whether_all_of_it_is_here(mail: Mail) -> None:
    before = (await mail.client.get("/v1/me/mailboxes")).headers["ETag"]
    await break_two(mail)

    listed = await mail.client.get("/v1/me/mailboxes", headers={"If-None-Match": before})

    found = {one["path"]: one["sync"] for one in listed.json()["items"]}
    assert found["Archive"] == {"status": "incomplete", "problem": "It cannot be opened"}
    assert found["INBOX"] == {"status": "live", "problem": None}


async def test_a_token_that_is_limited_to_mailboxes_hears_of_these_alone(mail: Mail) -> None:
    inbox, _, _ = await break_two(mail)
    client = mail.gateway.client(await mail.gateway.token(mail.account_id, mailbox_ids=(inbox,)))

    sync = (await client.get("/v1/me")).json()["sync"]

    assert (sync["incomplete"], [one["id"] for one in sync["incomplete_mailboxes"]]) == (1, [inbox])


async def test_a_subscription_begins_with_what_is_incomplete(mail: Mail) -> None:
    await break_two(mail)
    services, socket = mail.gateway.services, RecordingSocket()
    stream = cast("StreamSocket", socket)
    following = Following(stream, services.events, services.states, services.accounts, services.turns, services.counts)
    frame = SubscribeFrame.model_validate({"type": "subscribe", "sub_id": "s", "accounts": "*"})

    await Subscribing(stream, services, following).subscribe(frame, ADMIN)

    following.close()
    [subscribed] = [one for one in socket.frames if one["type"] == "subscribed"]
    assert subscribed["sync"][mail.account_id]["incomplete"] == 2
