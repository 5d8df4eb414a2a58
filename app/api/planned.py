"""Operations of the API's design that are not implemented: each returns 501 `not_implemented`.

Remove a row when you implement the operation; a test checks that no row has a route.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request, Response
from starlette.routing import Route

from app.api.deps import authenticate
from app.errors import NotImplementedYet

_ACCOUNT = "/v1/accounts/{account_id}"
_MESSAGE = f"{_ACCOUNT}/messages/{{message_id}}"
_MAILBOX = f"{_ACCOUNT}/mailboxes/{{mailbox_id}}"

PLANNED: dict[str, str] = {
    # reading
    f"{_MESSAGE}/attachments.zip": "GET",
    f"{_MESSAGE}/cid/{{cid}}": "GET",
    f"{_MESSAGE}/security": "GET",
    f"{_ACCOUNT}/contacts": "GET",
    f"{_ACCOUNT}/contacts/suggest": "GET",
    f"{_ACCOUNT}/unread-summary": "GET",
    f"{_ACCOUNT}/messages/wait": "POST",
    f"{_ACCOUNT}/queues": "GET",
    f"{_ACCOUNT}/queues/{{queue}}": "GET PUT DELETE",
    f"{_ACCOUNT}/queues/{{queue}}/claim": "POST",
    f"{_ACCOUNT}/claims/{{claim_id}}/complete": "POST",
    f"{_ACCOUNT}/claims/{{claim_id}}/release": "POST",
    f"{_ACCOUNT}/claims/{{claim_id}}/extend": "POST",
    f"{_MAILBOX}/empty": "POST",
    f"{_MAILBOX}/mark-read": "POST",
    # composing
    f"{_ACCOUNT}/drafts": "GET POST",
    f"{_ACCOUNT}/drafts/{{draft_id}}": "GET PUT PATCH DELETE",
    f"{_ACCOUNT}/drafts/{{draft_id}}/send": "POST",
    f"{_MESSAGE}/draft": "POST",
    f"{_MESSAGE}/rsvp": "POST",
    f"{_MESSAGE}/unsubscribe": "POST",
    f"{_ACCOUNT}/identities": "GET POST",
    f"{_ACCOUNT}/identities/{{identity_id}}": "GET PATCH DELETE",
    f"{_ACCOUNT}/submissions/{{submission_id}}/approve": "POST",
    f"{_ACCOUNT}/submissions/{{submission_id}}/reject": "POST",
    f"{_ACCOUNT}/suppressions": "GET POST DELETE",
    f"{_ACCOUNT}/suppressions/{{address}}": "GET DELETE",
    "/v1/uploads": "POST",
    "/v1/uploads/{upload_id}": "GET HEAD PATCH DELETE",
    "/v1/templates": "GET POST",
    "/v1/templates/{template_id}": "GET PATCH DELETE",
    "/v1/templates/{template_id}/render": "POST",
    # settings of an account
    f"{_ACCOUNT}/vacation": "GET PUT PATCH DELETE",
    f"{_ACCOUNT}/rules": "GET POST PUT",
    f"{_ACCOUNT}/rules/{{rule_id}}": "GET PATCH DELETE",
    f"{_ACCOUNT}/sieve": "GET POST PUT DELETE",
    f"{_ACCOUNT}/app-passwords": "GET POST",
    f"{_ACCOUNT}/app-passwords/{{app_password_id}}": "GET DELETE",
    # events
    f"{_ACCOUNT}/webhooks": "GET POST",
    f"{_ACCOUNT}/webhooks/{{webhook_id}}": "GET PATCH DELETE",
    "/v1/webhooks": "GET POST",
    "/v1/webhooks/{webhook_id}": "GET PATCH DELETE",
    "/v1/webhooks/{webhook_id}/test": "POST",
    "/v1/webhooks/{webhook_id}/rotate": "POST",
    "/v1/webhooks/{webhook_id}/replay": "POST",
    "/v1/webhooks/{webhook_id}/deliveries": "GET",
    "/v1/push-subscriptions": "GET POST",
    "/v1/push-subscriptions/{push_subscription_id}": "GET PATCH DELETE",
    # operation
    "/v1/batch": "POST",
    "/v1/jobs": "GET POST",
    "/v1/jobs/{job_id}": "GET DELETE",
    "/v1/usage": "GET",
    "/v1/audit": "GET",
    "/v1/sandbox/messages": "GET POST",
    "/v1/sandbox/faults": "GET POST DELETE",
    "/v1/admin/domains": "GET POST",
    "/v1/admin/domains/{domain}": "GET PATCH DELETE",
    "/v1/admin/mailboxes": "GET POST",
    "/v1/admin/mailboxes/{address}": "GET PATCH DELETE",
    "/v1/admin/aliases": "GET POST",
    "/v1/admin/aliases/{address}": "GET PATCH DELETE",
    "/v1/admin/dkim": "GET POST",
    "/v1/admin/dkim/{domain}": "GET PATCH DELETE",
    "/mcp": "GET POST DELETE",
}
"""Path → methods."""


def planned_routes() -> Iterator[Route]:
    """Yield the routes, which must come after all implemented routes."""
    for path, methods in PLANNED.items():
        yield Route(path, _not_implemented, methods=methods.split(), include_in_schema=False)


async def _not_implemented(request: Request) -> Response:
    await authenticate(request)
    raise NotImplementedYet(f"{request.method} {request.url.path} is not implemented yet")
