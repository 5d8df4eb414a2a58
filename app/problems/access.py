"""Problems of access: tokens, rights and rates."""

from __future__ import annotations

from app.problems.row import Problem

ROWS = (
    Problem(
        code="not_authenticated",
        title="Authentication failed",
        status=401,
        when="A password is wrong, or a token may not be used from this network.",
        why="Postgate does not say which part of a login was wrong.",
        what_to_do="Check the address, the password and the networks of the token.",
        fix="Check the credentials and the networks of the token.",
    ),
    Problem(
        code="token_missing",
        title="The request has no bearer token",
        status=401,
        when="The `Authorization` header is missing, or does not begin with `Bearer`.",
        why="Every operation except the public ones needs a token.",
        what_to_do="Send `Authorization: Bearer pgs_…`. Browsers open streams with a ticket instead.",
        fix="Send the header Authorization: Bearer with your token.",
    ),
    Problem(
        code="token_malformed",
        title="The bearer token is not well-formed",
        status=401,
        when="The value after `Bearer` is not a secret that Postgate issues: these begin with `pgs_`.",
        why="Often the id of a token (`tok_…`) is sent, or a secret that was cut or quoted.",
        what_to_do="Send the whole secret that `POST /v1/tokens` or `POST /v1/session` answered.",
        fix="Send the whole secret, which begins with pgs_, not the token's id.",
    ),
    Problem(
        code="token_expired",
        title="The token has expired",
        status=401,
        when="The token's `expires_at` has passed.",
        why="Tokens for browsers and phones live for minutes, so that a lost one is soon worthless.",
        what_to_do="Refresh the session with `POST /v1/session/refresh`, or let your back end make a new token.",
        fix="Refresh the session or get a new token, then repeat the request.",
    ),
    Problem(
        code="token_revoked",
        title="The token was revoked or never existed",
        status=401,
        when="The token, or the session that made it, was revoked; or the secret is unknown.",
        why="A changed password, a sign-out or an operator ends tokens at once.",
        what_to_do="Sign in again, or make a new token. Do not retry with this one.",
        fix="Sign in again or make a new token.",
    ),
    Problem(
        code="not_permitted",
        title="The token does not allow this",
        status=403,
        when="The token is valid and lacks a scope, or is limited to other accounts, mailboxes, senders or origins.",
        why="A token can do what it was made for and nothing else.",
        what_to_do="`detail` names what is missing. Make a token that has it; a token never grants more than its own.",
        fix="Use a token that has the right that `detail` names.",
    ),
    Problem(
        code="rate_limited",
        title="Too many requests",
        status=429,
        is_retryable=True,
        when="A token, an account or an address exceeds its number of requests or failed logins.",
        why="Limits keep one caller from slowing down all others.",
        what_to_do="Wait as long as `Retry-After` says. `RateLimit` headers show what is left.",
        fix="Wait as long as the Retry-After header says.",
    ),
    Problem(
        code="too_many_connections",
        title="There are too many connections",
        status=503,
        is_retryable=True,
        when="The process has as many open connections as it can serve, and yours is not signed in.",
        why="Signed-in clients keep their place when there are too many strangers.",
        what_to_do="Reuse connections, and try again after `Retry-After` seconds.",
        fix="Close idle connections and try again after Retry-After seconds.",
    ),
)
