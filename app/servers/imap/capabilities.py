"""The capabilities that the commands declare; some depend on the session."""

from __future__ import annotations

from app.servers.imap.session import ServerSession


def capabilities(session: ServerSession) -> str:
    """Return the capabilities offered now: IMAP4rev1 first, then in alphabetical order."""
    words = {word if isinstance(word, str) else word(session) for word in session.offered}
    return " ".join(["IMAP4rev1", *sorted(words - {""})])


def capability_code(session: ServerSession) -> str:
    """Return the response code of a greeting or a login."""
    return f"CAPABILITY {capabilities(session)}"
