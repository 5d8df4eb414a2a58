"""`Idempotency-Key`: repeating a POST that creates or sends does so only once.

async def create_mailbox(account: MailboxesAccount, body: CreateMailbox, once: Once, …) -> Response:
    async def work(attempt: Attempt) -> Answer:
        mailbox = await mailboxes.create(account, …)
        return answer_of(201, Mailbox.of(mailbox))

    return await once.run(work)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from app.api.deps import authenticate, services_of
from app.api.long_texts import LARGE_BODY_BYTES
from app.services.access.idempotency import Answer, Attempt, Work, hash_payload, parse_key


def answer_of(status: int, body: BaseModel | bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer with a JSON body."""
    content = body if isinstance(body, bytes) else body.model_dump_json(by_alias=True).encode()
    return Answer(status, content, headers or {})


def response_of(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), "application/json")


def _nothing() -> None:
    """Release nothing."""


class IdempotentRequest:
    """Runs the work of this request, or returns the stored answer of the first attempt.

    A stored answer is returned without running the work. A route must therefore check before `run` whether the caller
    may still make this call and see the answer.
    """

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = None if key is None else parse_key(key)

    async def run(
        self,
        work: Work,
        *,
        payload_hash: str | None = None,
        is_secret: bool = False,
        caller: str | None = None,
        release: Callable[[], None] = _nothing,
    ) -> Response:
        """Return the response of the work, which runs at most once per key.

        `payload_hash`: for a body that was streamed. `is_secret`: encrypt the stored answer. `caller`: an authenticated
        identity to use instead of the sign-in or server key behind the token. `release` is called when the work has
        ended or is not needed, even if the request was cancelled before.
        """
        try:
            begun = await self._begin(payload_hash, caller, is_secret=is_secret)
        except BaseException:
            release()
            raise
        if isinstance(begun, Answer):
            release()
            response = response_of(begun)
            response.headers["Idempotency-Replayed"] = "true"
            return response

        async def released(attempt: Attempt) -> Answer:
            try:
                return await work(attempt)
            finally:
                release()

        return response_of(await services_of(self._request).idempotency.complete(begun, released))

    async def _begin(self, payload_hash: str | None, caller: str | None, *, is_secret: bool) -> Answer | Attempt:
        idempotency = services_of(self._request).idempotency
        if self._key is None:
            return Attempt(idempotency)
        scope, payload = await self._scope(caller), payload_hash or await self._hash()
        return await idempotency.begin(scope, self._key, payload, is_secret=is_secret)

    async def _scope(self, asker: str | None) -> str:
        """Return caller, method and path; the path has the account's id, so that `/v1/me` is the same path."""
        request, parameters = self._request, dict(self._request.path_params)
        if asker is None:
            caller = await authenticate(request)
            if "account_id" in parameters:
                parameters["account_id"] = caller.account(parameters["account_id"])
            asker = caller.asker(parameters.get("account_id"))
        path = request.scope["route"].path_format.format(**parameters)
        return f"2 {asker} {request.method} {path}"

    async def _hash(self) -> str:
        query, body = self._request.url.query.encode(), await self._request.body()
        if len(body) < LARGE_BODY_BYTES:
            return hash_payload(query, body)
        return await asyncio.to_thread(hash_payload, query, body)


async def _one_time(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(description="Makes repeating the request safe: 1–255 visible ASCII characters, quoted or bare."),
    ] = None,
) -> IdempotentRequest:
    return IdempotentRequest(request, idempotency_key)


Once = Annotated[IdempotentRequest, Depends(_one_time)]
