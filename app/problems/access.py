"""Problems of access: tokens, rights and rates."""

from __future__ import annotations

from app.problems.row import Problem

ROWS = (
    Problem(
        code="not_authenticated",
        title="Authentication failed",
        status=401,
        when="A password is wrong, or a token is not allowed from this network.",
        why="Postgate does not say which part of a login was wrong.",
        what_to_do="Check the address, the password and the networks of the token.",
        fix="Check the credentials and the networks of the token.",
    ),
    Problem(
        code="token_missing",
        title="The request has no bearer token",
        status=401,
        when="The `Authorization` header is missing, or does not begin with `Bearer`.",
        why="Every operation except the public operations requires a token.",
        what_to_do="Send `Authorization: Bearer pgs_…`. Browsers open streams with a ticket instead.",
        fix="Send the header Authorization: Bearer with your token.",
    ),
    Problem(
        code="token_malformed",
        title="The bearer token is not well-formed",
        status=401,
        when="The value after `Bearer` is not a secret that Postgate has issued, which begins with `pgs_`.",
        why="Often the client sends the id of a token (`tok_…`), or a truncated or quoted secret.",
        what_to_do="Send the complete secret that `POST /v1/tokens` or `POST /v1/session` returned.",
        fix="Send the complete secret, which begins with pgs_, not the token's id.",
    ),
    Problem(
        code="token_expired",
        title="The token has expired",
        status=401,
        when="The token's `expires_at` has passed.",
        why="Tokens for browsers and phones expire within minutes, so that a stolen token is useful only briefly.",
        what_to_do="Refresh the session with `POST /v1/session/refresh`, or let your back end create a new token.",
        fix="Refresh the session or get a new token, then repeat the request.",
    ),
    Problem(
        code="token_revoked",
        title="The token was revoked or never existed",
        status=401,
        when="The token, or the session that created it, was revoked; or the secret is unknown.",
        why="Tokens end at once after a password change, a sign-out, or a revocation by an operator.",
        what_to_do="Sign in again, or create a new token. Do not retry with this token.",
        fix="Sign in again or create a new token.",
    ),
    Problem(
        code="not_permitted",
        title="The token does not allow this",
        status=403,
        when="The token is valid but lacks a scope, or is limited to other accounts, mailboxes, senders or origins.",
        why="A token has only the rights that it was created with.",
        what_to_do="`detail` names the missing right. Create a token with it, using a token that has it.",
        fix="Use a token that has the right that `detail` names.",
    ),
    Problem(
        code="rate_limited",
        title="Too many requests",
        status=429,
        is_retryable=True,
        when="A token, an account or an address exceeds its number of requests or failed logins.",
        why="Limits keep one caller from slowing down all others.",
        what_to_do="Wait as long as `Retry-After` says. `RateLimit` headers show the remaining requests.",
        fix="Wait as long as the Retry-After header says.",
    ),
    Problem(
        code="too_many_connections",
        title="Too many connections",
        status=503,
        is_retryable=True,
        when="The process has as many open connections as it can serve, and yours is not signed in.",
        why="Connections of signed-in clients have priority over other connections.",
        what_to_do="Reuse connections, and try again after `Retry-After` seconds.",
        fix="Close idle connections and try again after Retry-After seconds.",
    ),
)
