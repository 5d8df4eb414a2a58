"""Problems of resources: they do not exist, or their state does not allow the call."""

from __future__ import annotations

from app.problems.row import Problem


def _not_found(code: str, title: str, noun: str, list_call: str, imap_code: str | None = None) -> Problem:
    return Problem(
        code=code,
        title=title,
        status=404,
        when=f"{noun} with this id does not exist, was deleted, or is not visible to the token.",
        why="The response is the same in all three cases, so that it does not reveal what the token cannot see.",
        what_to_do=f"Check the id and the token's access: `{list_call}` lists what the token can see.",
        fix=f"Check the id with {list_call}.",
        imap_code=imap_code,
    )


ROWS = (
    Problem(
        code="not_found",
        title="Not found",
        status=404,
        when="Nothing exists at this path, or the token cannot see it.",
        why="The path has a typing error, or the resource was deleted.",
        what_to_do="Compare the path with the API reference at `/docs`.",
        fix="Compare the path with the API reference at /docs.",
    ),
    _not_found("account_not_found", "Account not found", "An account", "GET /v1/accounts"),
    _not_found("mailbox_not_found", "Mailbox not found", "A mailbox", "GET …/mailboxes"),
    _not_found("message_not_found", "Message not found", "A message", "GET …/messages", "EXPUNGEISSUED"),
    _not_found("thread_not_found", "Thread not found", "A thread", "GET …/threads"),
    _not_found("part_not_found", "Part not found", "A part or attachment", "GET …/messages/{id}?view=full"),
    _not_found("submission_not_found", "Submission not found", "A submission", "GET …/submissions"),
    _not_found("token_not_found", "Token not found", "A token", "GET /v1/tokens"),
    _not_found("oauth_app_not_found", "OAuth app not found", "An OAuth app", "GET /v1/oauth-apps"),
    Problem(
        code="link_not_found",
        title="This link is not valid",
        status=404,
        when="The URL of a signed link was truncated, changed, or signed by another installation.",
        why="The signature covers every part of a link.",
        what_to_do="Use the complete `url` that `POST …/messages/{id}/links` returned, or create a new link.",
        fix="Create a new link.",
    ),
    Problem(
        code="link_expired",
        title="This link has expired",
        status=410,
        when="The link's `expires_at` has passed, or the sign-in or token that it belongs to has ended.",
        why="A link has the rights of the sign-in or token that created it, and ends with it at once.",
        what_to_do="Create a new link with `POST …/messages/{id}/links`, or load the message again.",
        fix="Create a new link, or load the message again.",
    ),
    Problem(
        code="image_not_available",
        title="The remote image is not available",
        status=502,
        when="The server of the image does not respond within 10 seconds, is not public, redirects more than three "
        "times, or sends more than 5 MB or anything but a raster image.",
        why="Postgate fetches remote images on the reader's behalf, and accepts only images.",
        what_to_do="Show a placeholder. Do not retry at once: the server is a third party's.",
        fix="Show a placeholder instead of the image.",
    ),
    Problem(
        code="connect_session_not_found",
        title="This link is not valid: it was used, has expired, or was opened in another browser",
        status=404,
        when="The link of a connect session is opened a second time, too late, or in another browser.",
        why="A link connects one account, once, for the person who opened it.",
        what_to_do="Create a new session with `POST /v1/connect/sessions` and open its link.",
        fix="Create a new connect session.",
    ),
    Problem(
        code="conflict",
        title="The current state does not allow this",
        status=409,
        when="The call is not possible in the resource's current state, for example for a message that was sent.",
        why="The call would contradict what has already happened.",
        what_to_do="Read the resource again before you decide what to do.",
        fix="Read the resource again, then decide what to do.",
    ),
    Problem(
        code="already_exists",
        title="Already exists",
        status=409,
        when="Something with the same name or address exists already.",
        why="Names of mailboxes and addresses of accounts are unique.",
        what_to_do="Use the existing resource, or choose another name.",
        fix="Use the existing resource or choose another name.",
        imap_code="ALREADYEXISTS",
    ),
    Problem(
        code="maildrop_in_use",
        title="Another POP3 session has locked this maildrop",
        status=409,
        when="A POP3 client logs in while another session of the same user is open.",
        why="A POP3 maildrop has an exclusive lock (RFC 1939 §4).",
        what_to_do="Close the other session, or wait until it ends.",
        fix="Wait until the other session has ended.",
    ),
    Problem(
        code="account_has_no_password",
        title="The account has no password to change",
        status=409,
        when="A client changes the password of an account that signs in with OAuth.",
        why="Its owner signs in at the provider, which has the password.",
        what_to_do="Change the password at the provider.",
        fix="Change the password at the provider.",
    ),
    Problem(
        code="precondition_failed",
        title="The resource has changed since you read it",
        status=412,
        when="`If-Match` names a version of the resource that is not the current one.",
        why="Another client changed the resource, and your change would overwrite that change.",
        what_to_do="Read the resource again, apply your change to it, and send it with the new ETag.",
        fix="Read the resource again and use its new ETag.",
    ),
    Problem(
        code="state_expired",
        title="The state or cursor has expired",
        status=410,
        when="A cursor or state is older than the stored events, or a mailbox got a new UIDVALIDITY.",
        why="Events are stored for 7 days and deletions for 90. A new UIDVALIDITY makes all message numbers invalid.",
        what_to_do="`mailbox_ids` has the mailboxes to list again. Call `/changes` with `except=` these mailboxes "
        "for all others. If it is empty, call `/changes` with the same state.",
        fix="List the mailboxes in mailbox_ids again; if there are none, call /changes.",
    ),
    Problem(
        code="blob_missing",
        title="The stored message is missing or damaged",
        status=500,
        when="The bytes of a message are not in the store, or their hash is wrong.",
        why="A disk failed, or a backup was restored without its files.",
        what_to_do="Restore the data directory from a backup; `postgate restore` lists the missing files.",
        imap_code="CORRUPTION",
    ),
)
