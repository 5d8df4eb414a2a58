"""Idempotency-Key at the edge: a POST that creates or sends does so once.

async def create_mailbox(account: MailboxesAccount, order: NewMailbox, once: Once, …) -> Response:
    async def work(attempt: Attempt) -> Answer:
        mailbox = await mailboxes.create(account, …)
        return answer_of(201, Mailbox.of(mailbox))

    return await once.run(work)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from app.api.deps import authenticate, services_of
from app.errors import GatewayError, MailServerError
from app.services.idempotency import Answer, Attempt, hash_payload, parse_key

Work = Callable[[Attempt], Awaitable[Answer]]


def answer_of(status: int, body: BaseModel | bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    content = body if isinstance(body, bytes) else body.model_dump_json(by_alias=True).encode()
    return Answer(status, content, headers or {})


def response_of(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), "application/json")


class OneTime:
    """Runs the work of this request, or gives the answer that it had the first time."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = None if key is None else parse_key(key)

    async def run(
        self, work: Work, *, payload_hash: str | None = None, is_secret: bool = False, caller: str | None = None
    ) -> Response:
        """`payload_hash` for a body that was streamed; `is_secret` for an answer that must not be kept in clear;
        `caller` who it is, where no token says so: it must have been proven.

        A refused request leaves no trace. Where a mail server's answer was lost, the next attempt is a repeated one.
        """
        idempotency = services_of(self._request).idempotency
        if self._key is None:
            return response_of(await work(Attempt(idempotency)))
        scope, payload = await self._scope(caller), payload_hash or await self._hash()
        begun = await idempotency.begin(scope, self._key, payload, is_secret=is_secret)
        if isinstance(begun, Answer):
            response = response_of(begun)
            response.headers["Idempotency-Replayed"] = "true"
            return response
        try:
            answer = await work(begun)
            await idempotency.finish(begun, answer)
        except GatewayError as error:
            if not isinstance(error, MailServerError):
                await idempotency.forget(begun)
            raise
        finally:
            idempotency.end(begun)
        return response_of(answer)

    async def _scope(self, caller: str | None) -> str:
        who = caller or (await authenticate(self._request)).token_id
        return f"{who} {self._request.method} {self._request.url.path}"

    async def _hash(self) -> str:
        return hash_payload(self._request.url.query.encode(), await self._request.body())


async def _one_time(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(description="Makes a repetition safe: 1–255 visible ASCII characters, quoted or bare."),
    ] = None,
) -> OneTime:
    return OneTime(request, idempotency_key)


Once = Annotated[OneTime, Depends(_one_time)]
