"""What holds the event loop for more than 20 ms of CPU while clients make the largest requests that each route allows.

`make soak` prints the callbacks of each drive. The bound is on their number, since a machine under load may interrupt
a callback: the processor time of a callback grows a little with what other programs do to the caches.
"""

from __future__ import annotations

import base64
import imaplib
import json
import poplib
import smtplib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.loop_time import LOOP_MS, held
from tests.servers.postgate import Postgate, running_postgate

MESSAGES = 20_000
SYNC_SECONDS = 600
HOLDS_LIMIT = 2
"""Callbacks above LOOP_MS that one drive may have."""
MEGABYTE = 1024 * 1024
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1_800)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgate]:
    """A demo that watches its event loop, with a large mailbox `Large` and a thread of 1,000 messages."""
    folder: Path = tmp_path_factory.mktemp("loop")
    with running_postgate(folder, DEBUG_LOOP_MS=str(LOOP_MS), RATE_LIMIT_ENABLED="false") as running:
        fill(running)
        yield running


def fill(server: Postgate) -> None:
    imap = server.imap()
    imap.create("Large")
    imap.create("Target")
    imap.select("INBOX")
    for number in range(1_000):
        reference = b"" if number == 0 else b"References: <root@x.test>\r\n"
        name = b"root" if number == 0 else b"reply%d" % number
        append(imap, "Large", b"Subject: thread\r\nMessage-ID: <%b@x.test>\r\n%b\r\nText\r\n" % (name, reference))
    imap.select("Large")
    while (total := int(imap.select("Large")[1][0] or 0)) < MESSAGES:
        imap.copy(f"1:{min(total, MESSAGES - total)}", "Large")
    imap.logout()


def append(imap: imaplib.IMAP4, mailbox: str, content: bytes) -> None:
    answer, detail = imap.append(mailbox, "", "", content)
    assert answer == "OK", detail


def listed(client: httpx2.Client, server: Postgate, **params: Any) -> list[str]:
    params = {"limit": 50 if params.get("view") == "full" else 200, **params}
    answer = client.get(f"{server.account_path()}/messages", params=params)
    return [item["id"] for item in answer.raise_for_status().json()["items"]]


def mailbox_id(client: httpx2.Client, account: str, name: str) -> str:
    items = client.get(f"{account}/mailboxes").raise_for_status().json()["items"]
    found: str = next(item["id"] for item in items if item["name"] == name)
    return found


def imported(client: httpx2.Client, server: Postgate, content: bytes) -> str:
    """The path of a message that is put into INBOX."""
    path = f"{server.account_path()}/messages"
    headers = {"Content-Type": "message/rfc822"}
    inbox = mailbox_id(client, server.account_path(), "INBOX")
    answer = client.post(path, content=content, headers=headers, params={"mailbox_id": inbox})
    return f"{path}/{answer.raise_for_status().json()['id']}"


# ---- drives: what a client asks for


def many_parts(server: Postgate) -> None:
    part = (
        b'Content-Type: application/pdf; name="a b.pdf"\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\nA\r\n'
    )
    head = b"Subject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    with server.client() as client:
        path = imported(client, server, head + (b"--b\r\n" + part) * 9_990 + b"--b--\r\n")
        full = client.get(path, params={"view": "full"}).raise_for_status().json()
        client.get(f"{path}/body").raise_for_status()
        client.get(f"{path}/parts/700").raise_for_status()
        client.get(f"{path}/attachments/{full['attachments'][-1]['id']}").raise_for_status()
        listed(client, server, view="full", limit=10)
        client.get(f"{path}/headers").raise_for_status()
    imap = server.imap()
    imap.select("INBOX")
    last = imap.search(None, "ALL")[1][0].split()[-1].decode()
    imap.fetch(last, "(BODYSTRUCTURE)")
    imap.fetch(last, "(BODY)")
    imap.fetch(last, "(BODY.PEEK[700] BODY.PEEK[701.MIME])")
    imap.logout()


def large_header(server: Postgate) -> None:
    field = b"X-Field: " + b"value " * 150 + b"\r\n"
    names = b", ".join(b"Name %d <user%d@example.com>" % (n, n) for n in range(9_000))
    with server.client() as client:
        for header in (field * 1_000, b"To: " + names + b"\r\n", b"References: " + b"<a@b.c> " * 20_000 + b"\r\n"):
            path = imported(client, server, b"Subject: large\r\n" + header + b"\r\nText\r\n")
            client.get(path, params={"view": "full"}).raise_for_status()
            client.get(f"{path}/headers").raise_for_status()
            listed(client, server)
        listed(client, server, view="full")
    imap = server.imap()
    imap.select("INBOX")
    imap.fetch("1:*", "(ENVELOPE BODY.PEEK[HEADER.FIELDS (TO SUBJECT)])")
    imap.logout()


def large_sends(server: Postgate) -> None:
    content = base64.b64encode(bytes(range(256)) * (25 * MEGABYTE // 256)).decode()
    order = {
        "to": [{"address": "bob@demo.test"}],
        "subject": "large",
        "text": "Une ligne de texte, 1 \N{EURO SIGN}\n" * (9 * MEGABYTE // 25),
        "html": "<p>A line of text</p>" * (9 * MEGABYTE // 21),
        "attachments": [{"filename": "a.bin", "content_type": "application/octet-stream", "content_base64": content}],
    }
    with server.client() as client:
        client.timeout = 120
        client.post(f"{server.account_path()}/send", json=order).raise_for_status()
        inbox = mailbox_id(client, server.account_path(), "INBOX")
        written = client.post(f"{server.account_path()}/messages", json=order, params={"mailbox_id": inbox})
        written.raise_for_status()


def many_recipients(server: Postgate) -> None:
    order = {
        "to": [{"address": f"user{n}@demo.test", "name": f"User {n}"} for n in range(1_000)],
        "text": "x" * 900_000,
    }
    with server.client() as client:
        client.post(f"{server.account_path()}/send", json=order)
        client.get(f"{server.account_path()}/submissions", params={"limit": 200})


def ask(client: httpx2.Client, path: str, **body: Any) -> Any:
    """The answer to a POST."""
    answer = client.post(path, json=body)
    assert answer.is_success, answer.text
    return answer.json()


def some_ids(client: httpx2.Client, account: str, mailbox: str, count: int) -> list[str]:
    """The ids of messages of a mailbox, read from its pages."""
    path, ids = f"{account}/messages", list[str]()
    params: dict[str, Any] = {"mailbox_id": mailbox, "limit": 200}
    while len(ids) < count:
        page = client.get(path, params=params).raise_for_status().json()
        ids += [item["id"] for item in page["items"]]
        params["cursor"] = page["next_cursor"]
    return ids[:count]


def lists(server: Postgate) -> None:
    with server.client() as client:
        account, large = server.account_path(), mailbox_id(client, server.account_path(), "Large")
        for view in ("summary", "full"):
            listed(client, server, mailbox_id=large, view=view)
        ids = some_ids(client, server.account_path(), large, 1_000)
        ask(client, f"{account}/messages/batch-get", message_ids=ids)
        ask(client, f"{account}/messages/batch-get", message_ids=ids[:50], view="full")
        thread = client.get(f"{account}/messages/{ids[-1]}").raise_for_status().json()["thread_id"]
        client.get(f"{account}/threads/{thread}").raise_for_status()
        client.get(f"{account}/threads", params={"limit": 100}).raise_for_status()


def searches(server: Postgate) -> None:
    conditions = [{"text": f"word{n}"} for n in range(10)] + [{"subject": f"word{n}"} for n in range(180)]
    with server.client() as client:
        for filter_ in ({"any": conditions}, {"all": conditions}, {"text": "text"}, {"subject": "thread"}):
            ask(client, "/v1/search", filter=filter_, limit=50)


def bulk(server: Postgate) -> None:
    """The largest bulk requests, by id and by filter."""
    with server.client() as client:
        target, large = (
            mailbox_id(client, server.account_path(), "Target"),
            mailbox_id(client, server.account_path(), "Large"),
        )
        path = f"{server.account_path()}/messages"
        ids = some_ids(client, server.account_path(), large, 1_000)
        ask(client, f"{path}/move", message_ids=ids, mailbox_id=target)
        ask(client, f"{path}/copy", message_ids=ids, mailbox_id=large)
        ask(client, f"{path}/batch", message_ids=ids, keywords={"add": ["$flagged", "a", "b"]})
        ask(client, f"{path}/batch", message_ids=ids, mailbox_id=large)
        ask(client, f"{path}/batch", message_ids=ids, delete=True)
        ask(client, f"{path}/batch", message_ids=ids, delete="permanent")
        for change in ({"keywords": {"add": ["c"]}}, {"mailbox_id": large}):
            client.post(f"{path}/batch", json={"filter": {"keyword": "$flagged"}, **change}).raise_for_status()


def changes(server: Postgate) -> None:
    """All that has happened to the large mailbox, from a state before it, and as events."""
    with server.client() as client:
        account = server.account_path()
        page: dict[str, Any] = {"cursor": "earliest", "has_more": True}
        states = []
        while page["has_more"]:
            params = {"after": page["cursor"], "limit": 500}
            page = client.get(f"{account}/events", params=params).raise_for_status().json()
            states.append(page["cursor"])
        state, has_more = states[0], True
        while has_more:
            page = client.get(f"{account}/changes", params={"since": state}).raise_for_status().json()
            state, has_more = page["new_state"], page["has_more"]


def first_sync(server: Postgate) -> None:
    """The large mailbox as an external account's."""
    user = server.user()
    login = {"host": "127.0.0.1", "security": "none", "username": user["email"], "password": user["password"]}
    account = {
        "kind": "imap",
        "email": "me@x.test",
        "imap": login | {"port": server.ports["imap"]},
        "smtp": login | {"port": server.ports["submission"]},
    }
    with server.client() as client:
        added = client.post("/v1/accounts", json=account, params={"verify": "false"})
        assert added.is_success, added.text
        path = f"/v1/accounts/{added.json()['id']}"
        deadline = time.monotonic() + SYNC_SECONDS
        while count_in(client, path) < count_in(client, server.account_path()):
            assert time.monotonic() < deadline, client.get(path).json()
            time.sleep(1)
        large = mailbox_id(client, path, "Large")
        ids = some_ids(client, path, large, 1_000)
        ask(client, f"{path}/messages/move", message_ids=ids, mailbox_id=mailbox_id(client, path, "Target"))
        ask(client, f"{path}/messages/batch", message_ids=ids, keywords={"add": ["$flagged"]})


def count_in(client: httpx2.Client, path: str) -> int:
    items = client.get(f"{path}/mailboxes").raise_for_status().json()["items"]
    return sum(item["total"] for item in items)


def resumed_stream(server: Postgate) -> None:
    with server.stream() as stream:
        account_id = server.user()["account_id"]
        stream.send(json.dumps({"type": "subscribe", "sub_id": "s", "accounts": [account_id], "after": "earliest"}))
        while json.loads(stream.recv(60))["type"] != "ping":  # all events were sent, and then nothing for a while
            pass


def imap_reads(server: Postgate) -> None:
    imap = server.imap()
    imap.select("Large")
    for items in ("(FLAGS)", "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)", "(BODYSTRUCTURE)", "(BODY)"):
        imap.fetch("1:*", items)
    imap.fetch("1:2000", "(BODY.PEEK[])")
    for criteria in ("ALL", "UNSEEN", "SUBJECT thread", "TEXT text", "HEADER X-A b", "NOT FLAGGED LARGER 10"):
        imap.search(None, criteria)
    imap.status("Large", "(MESSAGES UNSEEN UIDNEXT)")
    imap.fetch(",".join(map(str, range(1, MESSAGES, 2))), "(FLAGS)")
    imap.logout()


def imap_writes(server: Postgate) -> None:
    imap = server.imap()
    other = server.imap()
    imap.select("Large")
    other.select("Large")
    imap.store("1:*", "+FLAGS", "(\\Flagged)")
    other.noop()
    imap.store("1:*", "-FLAGS.SILENT", "(\\Flagged)")
    imap.copy("1:*", "Target")
    imap.select("Target")
    imap.store("1:*", "+FLAGS.SILENT", "(\\Deleted)")
    imap.expunge()
    other.noop()
    imap.logout()
    other.logout()


def imap_appends(server: Postgate) -> None:
    imap = server.imap()
    append(imap, "Target", b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 64 * 1024 * 40)
    imap.select("Target")
    imap.fetch("1:*", "(BODY.PEEK[])")
    imap.logout()


def pop3_reads(server: Postgate) -> None:
    pop3 = poplib.POP3("127.0.0.1", server.ports["pop3"], timeout=60)
    pop3.user(server.user()["email"])
    pop3.pass_(server.user()["password"])
    pop3.list()
    pop3.uidl()
    for number in range(1, min(pop3.stat()[0], 20) + 1):
        pop3.top(number, 10)
        pop3.retr(number)
    pop3.quit()


def smtp_data(server: Postgate) -> None:
    line = b"0123456789abcdef" * 4 + b"\r\n"
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=120) as smtp:
        smtp.sendmail(
            "a@x.test", [server.user("bob")["email"]], b"Subject: large\r\n\r\n" + line * (40 * MEGABYTE // 66)
        )
        smtp.sendmail("a@x.test", [server.user("bob")["email"]], b"Subject: dots\r\n\r\n" + b".\r\n" * 2_000_000)


DRIVES: tuple[Callable[[Postgate], None], ...] = (
    lists,
    searches,
    imap_reads,
    imap_writes,
    imap_appends,
    changes,
    resumed_stream,
    many_parts,
    large_header,
    large_sends,
    many_recipients,
    pop3_reads,
    smtp_data,
    bulk,
    first_sync,
)


@pytest.mark.parametrize("drive", DRIVES, ids=lambda drive: drive.__name__)
def test_no_request_holds_the_event_loop(server: Postgate, drive: Callable[[Postgate], None]) -> None:
    before = held(server)
    drive(server)
    found: Counter[str] = held(server) - before

    print(f"{drive.__name__}: {dict(found) or 'nothing'} above {LOOP_MS} ms")  # noqa: T201 - the report of a soak
    assert found.total() <= HOLDS_LIMIT, found
