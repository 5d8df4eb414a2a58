"""The pages of connect sessions: plain HTML without scripts, under a strict Content-Security-Policy."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from fastapi.responses import HTMLResponse

from app.services.oauth.apps import OAuthApp

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 26rem; margin: 3rem auto; padding: 0 1rem; color: #1c1c1c;
  background: #fff; }
h1 { font-size: 1.4rem; } label { display: block; margin: .8rem 0; } input, select { font: inherit; width: 100%;
  box-sizing: border-box; padding: .45rem; border: 1px solid #767676; border-radius: 6px; }
button { font: inherit; width: 100%; padding: .6rem; margin: .3rem 0; border: 1px solid #1c1c1c; border-radius: 6px;
  background: #fff; cursor: pointer; } [role=alert] { border-left: 4px solid #b00020; padding-left: .8rem; }
fieldset { border: 0; padding: 0; margin: 1rem 0; } legend { font-weight: 600; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_SECURITIES = (("tls", "TLS"), ("starttls", "STARTTLS"))


def choose(apps: Sequence[OAuthApp], kind: str, values: Mapping[str, str], *, problem: str = "") -> HTMLResponse:
    """Return the page where a person chooses a provider or enters a password.

    `values` fills the fields; server fields are shown if `values` has servers. `kind` is imap or pop3. Without `apps`
    the page has the password form only; with `values["only_app"]` it has no password form.
    """
    parts = [_field("email", "E-mail address", values, "email", "username")]
    parts += [
        f'<button type="submit" name="app" value="{escape(oauth_app.id)}" formnovalidate>'
        f"Continue with {escape(oauth_app.name or oauth_app.provider.title())}</button>"
        for oauth_app in apps
    ]
    if "only_app" not in values:
        parts.append(_password_part(kind, values))
    form = f'<form method="post" autocomplete="on">{"".join(parts)}</form>'  # posts to the page's own URL
    alert = f'<p role="alert">{escape(problem)}</p>' if problem else ""
    return page_of("Connect your mail", alert + form, 422 if problem else 200)


def leave(url: str) -> HTMLResponse:
    """Send the browser to `url` by a meta refresh: `form-action` would block a redirect after a form."""
    target = escape(url)
    refresh = f'<meta http-equiv="refresh" content="0;url={target}">'
    return page_of("One moment", f'<p><a href="{target}">Continue</a></p>', 200, refresh)


def refuse(problem: str, status: int) -> HTMLResponse:
    """Return a page with an error and no form."""
    return page_of("Something went wrong", f'<p role="alert">{escape(problem)}</p>', status)


def _password_part(kind: str, values: Mapping[str, str]) -> str:
    entry = '<label>Password<input type="password" name="password" autocomplete="current-password"></label>'
    servers = ""
    if f"{kind}_host" in values:
        server_fields = "".join(
            _server_field(f"{protocol}_{member}", f"{protocol.upper()} {label}", values)
            for protocol in (kind, "smtp")
            for member, label in (("host", "server"), ("port", "port"), ("security", "security"))
        )
        login = _field("username", "User name, if it is not the address", values)
        servers = f"<fieldset><legend>Servers</legend>{login}{server_fields}</fieldset>"
    return f'{entry}{servers}<button type="submit" name="way" value="password">Connect with a password</button>'


def _server_field(name: str, label: str, values: Mapping[str, str]) -> str:
    if not name.endswith("_security"):
        return _field(name, label, values)
    options = "".join(
        f'<option value="{value}"{" selected" if values.get(name) == value else ""}>{text}</option>'
        for value, text in _SECURITIES
    )
    return f'<label>{label}<select name="{name}">{options}</select></label>'


def _field(name: str, label: str, values: Mapping[str, str], kind: str = "text", complete: str = "off") -> str:
    value = escape(values.get(name, ""))
    return f'<label>{label}<input type="{kind}" name="{name}" value="{value}" autocomplete="{complete}"></label>'


def page_of(title: str, content: str, status: int, head: str = "") -> HTMLResponse:
    """Return an HTML page. The caller has escaped title and content."""
    text = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width">{head}<style>{_STYLE}</style></head>'
        f"<body><main><h1>{title}</h1>{content}</main></body></html>\n"
    )
    return HTMLResponse(text, status, HEADERS)
