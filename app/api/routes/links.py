"""Signed links: a caller creates them; anyone can open them without a header."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from app.api.deps import CALLER_KEY, RATES_KEY, CurrentCaller, PublicAccess, ReadableAccount
from app.api.downloads import Labels, Source, download
from app.api.idempotency import Once, answer_of
from app.api.problems import problems
from app.api.routes.content import BYTES, part_labels, raw_labels
from app.api.routes.messages import ORIGIN
from app.api.routing import Router
from app.api.schemas.base import time_of
from app.api.schemas.links import CreateLink, SignedLink
from app.api.services import (
    AccountsService,
    ContentService,
    GatewaySettings,
    LinksService,
    RateLimitsService,
    RemoteImagesService,
)
from app.errors import (
    AccountNotFound,
    IdempotencyRunning,
    ImageNotAvailable,
    InvalidRequest,
    LinkExpired,
    LinkNotFound,
    MessageNotFound,
    NotPermitted,
    PartNotFound,
    RangeNotSatisfiable,
    RateLimited,
)
from app.mail.identifiers import content_digest, now_ms
from app.mail.types import Message
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.access.links import LIMIT_CHARS, PATH, Link, Target
from app.services.reading.content import Content
from app.services.reading.downloads import Held
from app.services.reading.remote_images import RemoteImages
from app.services.reading.rendering import picture_type

router = Router(tags=["messages"])

_LINK = PATH + "{link}"
_ANYONE = [PublicAccess]
CACHE_SECONDS = 3600
"""How long a browser may cache the content of a link."""
_REFUSALS = (ImageNotAvailable, LinkNotFound, LinkExpired, MessageNotFound, PartNotFound, NotPermitted, RateLimited)
_OPENED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The complete content", "content": BYTES},
    206: {"description": "The requested range", "content": BYTES},
    304: {"description": "Not modified"},
    **problems(
        LinkNotFound,
        LinkExpired,
        MessageNotFound,
        PartNotFound,
        NotPermitted,
        RateLimited,
        RangeNotSatisfiable,
        *ORIGIN,
    ),
}


@router.post(
    "/v1/accounts/{account_id}/messages/{message_id}/links",
    operation_id="createLink",
    status_code=201,
    response_model=SignedLink,
    responses=problems(MessageNotFound, PartNotFound, IdempotencyRunning, InvalidRequest, *ORIGIN),
)
async def create_link(
    account_id: ReadableAccount,
    caller: CurrentCaller,
    message_id: str,
    body: CreateLink,
    once: Once,
    content: ContentService,
    links: LinksService,
) -> Response:
    """Create a URL that opens an attachment, a part, or the raw message without a header, for up to 24 hours.

    It stops working earlier if the sign-in or token that created it ends.
    """
    message = await content.message(account_id, caller, message_id)

    async def work(_: Attempt) -> Answer:
        target, end_ms = Target(await _section(content, message, body)), _end_ms(caller, body)
        url = links.url(caller, account_id, message.id, target, end_ms)
        return answer_of(201, SignedLink(url=url, expires_at=time_of(end_ms)))

    # a link has the rights of one token, so another token never gets it
    return await once.run(work, is_secret=True, caller=f"token {caller.token_id}")


def _end_ms(caller: Caller, body: CreateLink) -> int:
    """Return when a link expires, in whole seconds: as requested, but not after its token."""
    end_ms = now_ms() + body.expires_in_seconds * 1000
    if not caller.is_sign_in and caller.expires_at_ms is not None:
        end_ms = min(end_ms, caller.expires_at_ms)
    return end_ms - end_ms % 1000


async def _section(content: Content, message: Message, body: CreateLink) -> str | None:
    """Return the section number of the requested part; None for the raw message. Raises PartNotFound."""
    if body.attachment_id is not None:
        return (await content.attachment(message, body.attachment_id)).part.section
    if body.part is not None:
        return (await content.part(message, body.part)).part.section
    return None


@router.head(
    "/v1/links/{link}", operation_id="headLink", response_class=Response, responses=_OPENED, dependencies=[PublicAccess]
)
@router.get(
    "/v1/links/{link}", operation_id="openLink", response_class=Response, responses=_OPENED, dependencies=[PublicAccess]
)
async def open_link(
    request: Request,
    link: Annotated[str, Path(max_length=LIMIT_CHARS, description="The link, as `POST …/links` returned it")],
    links: LinksService,
    limits: RateLimitsService,
    settings: GatewaySettings,
    accounts: AccountsService,
    content: ContentService,
    remote_images: RemoteImagesService,
    download_it: Annotated[
        bool, Query(alias="download", description="Also send an image as an attachment, for `<a download>`")
    ] = False,
) -> Response:
    """Download the resource of a signed link. Supports Range. Only raster images are sent inline."""
    opened = await links.open(link, request.client.host if request.client else None)
    request.scope[CALLER_KEY] = opened.caller
    request.scope[RATES_KEY] = limits.hit(opened.caller, settings.requests_per_minute)
    if not await accounts.exists(opened.account_id):
        raise AccountNotFound
    source, labels = await _resource(content, remote_images, opened)
    labels = replace(labels, is_inline=labels.is_inline and not download_it, headers=_headers(opened))
    return await download(request, source, labels)


async def _resource(content: Content, remote_images: RemoteImages, link: Link) -> tuple[Source, Labels]:
    message = await content.message(link.account_id, link.caller, link.message_id)
    if link.target.image_url is not None:
        image = await remote_images.get(link.account_id, link.target.image_url)
        labels = Labels(content_digest(image.content), image.media_type, None, is_inline=True)
        return Held(image.content), labels
    if link.target.section is None:
        return await content.raw(message), raw_labels(message)
    decoded = await content.part(message, link.target.section)
    labels, picture = part_labels(message.id, decoded.part), picture_type(decoded.part)
    return decoded, labels if picture is None else replace(labels, media_type=picture, is_inline=True)


def _headers(link: Link) -> dict[str, str]:
    return {
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": f"private, max-age={min(link.seconds_left, CACHE_SECONDS)}",
    }
