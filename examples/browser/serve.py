"""The back end of the example: serves the page, and makes short-lived tokens for it with the server key.

The browser never sees the server key. Its tokens expire after minutes, hold one account, and work on pages of this
origin alone. In an app with sign-in, `_token` checks it and makes the token for the account of that user.
"""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCOPES = ["mail.read", "mail.modify", "mail.send", "push"]


class Handler(SimpleHTTPRequestHandler):
    """`GET` a file of the page or /config, `POST /token`."""

    def __init__(self, *arguments: Any, options: argparse.Namespace, **keywords: Any) -> None:
        self.options = options
        super().__init__(*arguments, directory=str(HERE), **keywords)

    def do_GET(self) -> None:
        if self.path == "/config":
            self._answer(200, {"gateway": self.options.gateway})
        else:
            super().do_GET()

    def do_POST(self) -> None:
        if self.path != "/token":
            self._answer(404, {"detail": "Not found"})
        elif self.headers.get("Origin") not in self.options.origins:  # no other page gets a token
            self._answer(403, {"detail": "Tokens are for the page of this server"})
        else:
            self._answer(*self._token())

    def _token(self) -> tuple[int, Any]:
        """Status and content of the answer."""
        order = {
            "account_ids": [self.options.account_id],
            "scopes": SCOPES,
            "origins": self.options.origins,
            "expires_in_seconds": self.options.token_seconds,
        }
        headers = {"Authorization": f"Bearer {self.options.key}", "Content-Type": "application/json"}
        url = f"{self.options.gateway}/v1/tokens"
        request = urllib.request.Request(url, json.dumps(order).encode(), headers)  # noqa: S310 - our gateway
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our gateway
                return 201, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return 502, {"detail": f"The gateway refused to make a token: {refusal.read().decode()}"}
        except OSError as error:
            return 502, {"detail": f"The gateway did not answer: {error}"}

    def _answer(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        gateway = self.options.gateway
        connect = f"{gateway} {gateway.replace('http', 'ws', 1)}"
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: {gateway}; "
            f"connect-src 'self' {connect}; frame-ancestors 'none'",
        )
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()


def main() -> None:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--demo", type=Path, default=HERE.parents[1] / "data/demo.json", help="demo.json of the gateway"
    )
    parser.add_argument("--user", default="alice@demo.test", help="whose mail is shown")
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--gateway", help="URL of the gateway, default: that of demo.json")
    parser.add_argument("--token-seconds", type=int, default=900, help="how long a token lives")
    options = parser.parse_args()
    if not options.demo.exists():
        parser.error(f"{options.demo} does not exist: start the gateway first by `make run`")
    demo = json.loads(options.demo.read_text())
    options.key, options.gateway = demo["server_key"], options.gateway or demo["base_url"]
    options.account_id = next(user["account_id"] for user in demo["users"] if user["email"] == options.user)
    options.origins = [f"http://{name}:{options.port}" for name in ("127.0.0.1", "localhost")]
    with ThreadingHTTPServer(("127.0.0.1", options.port), partial(Handler, options=options)) as server:
        print(f"{options.origins[0]} shows the mail of {options.user} at {options.gateway}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
