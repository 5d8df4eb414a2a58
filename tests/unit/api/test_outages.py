"""A database that is away and a disk that is full are answers that say so and that ask to come again."""

from __future__ import annotations

import httpx2
import pytest

from tests.outages import database_away, disk_full
from tests.unit.api.mail import Mail


@pytest.mark.parametrize("method_and_path", ["GET /messages", "GET /mailboxes", "POST /mailboxes", "GET /threads"])
async def test_a_call_while_the_database_is_away_is_503_and_retryable(mail: Mail, method_and_path: str) -> None:
    method, path = method_and_path.split()
    await mail.get()  # the token is known
    with database_away():
        answer = await mail.client.request(method, f"/v1/me{path}", json={"name": "New"} if method == "POST" else None)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["retryable"]) == (503, "database_unavailable", True)
    assert int(answer.headers["retry-after"]) > 0


async def test_an_import_on_a_full_disk_is_507_and_retryable(mail: Mail) -> None:
    mailbox_id = await mail.mailbox_id()

    async def send() -> httpx2.Response:
        return await mail.client.post(
            "/v1/me/messages",
            params={"mailbox_id": mailbox_id},
            content=b"Subject: Hello\r\n\r\nText\r\n",
            headers={"Content-Type": "message/rfc822"},
        )

    with disk_full():
        answer = await send()
    assert (answer.status_code, answer.json()["code"], answer.json()["retryable"]) == (507, "storage_full", True)
    assert (await send()).status_code == 201
