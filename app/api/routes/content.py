"""The content of a message: raw bytes, header, body, parts and attachments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import Query, Request, Response

from app.api.conditions import etag_headers, is_unchanged, not_modified
from app.api.deps import CurrentCaller, ReadableAccount
from app.api.downloads import Labels, download
from app.api.problems import problems
from app.api.routes.messages import NOT_MODIFIED, ORIGIN
from app.api.routing import Router
from app.api.schemas.message_requests import QUOTES
from app.api.schemas.messages import HeaderField, HeaderList
from app.api.services import ContentService, LinksService
from app.errors import (
    InvalidRequest,
    MessageNotFound,
    NotSupported,
    PartNotFound,
    RangeNotSatisfiable,
)
from app.mail.types import BodyPart, Message
from app.mime.names import download_name
from app.mime.sanitise import Images, Look, Quotes, text_as_html
from app.services.access.links import PATH, base_url
from app.services.reading.views import ImagesName, QuotesName

router = Router(prefix="/v1/accounts/{account_id}/messages/{message_id}", tags=["messages"])

BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_TEXT = {"type": "string"}
_DOWNLOAD: dict[int | str, dict[str, Any]] = {
    200: {"description": "The complete content", "content": BYTES},
    206: {"description": "The requested range", "content": BYTES},
    **NOT_MODIFIED,
    **problems(MessageNotFound, PartNotFound, RangeNotSatisfiable, InvalidRequest, *ORIGIN),
}
_MESSAGE = {"message/rfc822": {"schema": {"type": "string", "format": "binary"}}}
_RAW: dict[int | str, dict[str, Any]] = {
    **_DOWNLOAD,
    200: {"description": "The complete message", "content": _MESSAGE},
    206: {"description": "The requested range", "content": _MESSAGE},
}
RENDERING = 3
"""The version of body rendering. Increase it with each change, so that cached bodies become invalid."""
_BODY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:{images}; sandbox allow-popups"


@router.head("/raw", operation_id="headRawMessage", response_class=Response, responses=_RAW)
@router.get("/raw", operation_id="getRawMessage", response_class=Response, responses=_RAW)
async def get_raw(
    request: Request, account_id: ReadableAccount, caller: CurrentCaller, message_id: str, content: ContentService
) -> Response:
    """Get the message as it was received (message/rfc822). Supports Range."""
    message = await content.message(account_id, caller, message_id)
    return await download(request, await content.raw(message), raw_labels(message))


@router.get("/headers", operation_id="getHeaders", responses=problems(MessageNotFound, *ORIGIN))
async def get_headers(
    account_id: ReadableAccount, caller: CurrentCaller, message_id: str, content: ContentService
) -> HeaderList:
    """Get all header fields in order, decoded."""
    fields = await content.fields(await content.message(account_id, caller, message_id))
    return HeaderList(items=[HeaderField(name=name, value=value) for name, value in fields])


@router.get(
    "/body",
    operation_id="getBody",
    response_class=Response,
    responses={
        200: {"description": "The body", "content": {"text/html": {"schema": _TEXT}, "text/plain": {"schema": _TEXT}}},
        **NOT_MODIFIED,
        **problems(MessageNotFound, NotSupported, InvalidRequest, *ORIGIN),
    },
)
async def get_body(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    message_id: str,
    content: ContentService,
    links: LinksService,
    format: Annotated[Literal["html", "text"], Query()] = "html",
    images: Annotated[
        ImagesName,
        Query(
            description="Remote images: blocked, left unchanged, or replaced by links with which Postgate fetches them"
        ),
    ] = "block",
    quotes: Annotated[QuotesName, Query(description=QUOTES)] = "keep",
) -> Response:
    """Get the body: a sanitised HTML fragment, or text.

    It contains up to 2 MB of the message's pictures; others are signed links, as are remote images with `proxy`.
    """
    message = await content.message(account_id, caller, message_id)
    etag = f"{message.id}-{format}-{images}-{quotes}-{RENDERING}"
    if is_unchanged(request, etag):
        return not_modified(etag)
    body = await content.body(message, Look(Images(images), Quotes(quotes)))
    headers = etag_headers(etag)
    if format == "text":
        return Response(body.text, headers=headers, media_type="text/plain")
    html = (body.html if body.html is not None else text_as_html(body.text, Quotes(quotes))).encode()
    filled = links.filled(html, account_id, message.id, caller)
    sources = [f"{base_url()}{PATH}"] if filled is not html else []
    sources += ["https:", "http:"] if images == "inline" else []
    policy = _BODY_POLICY.format(images="".join([f" {source}" for source in sources]))
    return Response(filled, headers={**headers, "Content-Security-Policy": policy}, media_type="text/html")


@router.head("/parts/{part}", operation_id="headPart", response_class=Response, responses=_DOWNLOAD)
@router.get("/parts/{part}", operation_id="getPart", response_class=Response, responses=_DOWNLOAD)
async def get_part(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    message_id: str,
    part: str,
    content: ContentService,
) -> Response:
    """Get a decoded part by its IMAP section number (`1`, `2.1`). Supports Range."""
    message = await content.message(account_id, caller, message_id)
    decoded = await content.part(message, part)
    return await download(request, decoded, part_labels(message.id, decoded.part))


@router.head(
    "/attachments/{attachment_id}", operation_id="headAttachment", response_class=Response, responses=_DOWNLOAD
)
@router.get("/attachments/{attachment_id}", operation_id="getAttachment", response_class=Response, responses=_DOWNLOAD)
async def get_attachment(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    message_id: str,
    attachment_id: str,
    content: ContentService,
) -> Response:
    """Get a decoded attachment. Supports Range."""
    message = await content.message(account_id, caller, message_id)
    decoded = await content.attachment(message, attachment_id)
    return await download(request, decoded, part_labels(message.id, decoded.part))


def raw_labels(message: Message) -> Labels:
    """Return the labels of a raw message; its subject gives the file name."""
    subject = str(orjson.loads(message.summary)["subject"]).replace("/", "-").replace("\\", "-")[:100]
    return Labels(f"{message.id}-raw", "message/rfc822", f"{subject or 'message'}.eml")


def part_labels(message_id: str, part: BodyPart) -> Labels:
    return Labels(f"{message_id}-{part.section.lower()}", part.media_type, download_name(part))
