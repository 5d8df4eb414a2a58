"""Generates docs/errors.md from the table of problems: `python -m app.problems.page`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from app.problems import SECTIONS, Problem

_HEAD = """# Errors

Generated from `app/problems` by `make openapi`.

Every error response is `application/problem+json` (RFC 9457):

```json
{
  "type": "/v1/problems/invalid_request",
  "title": "The request is not valid",
  "status": 422,
  "code": "invalid_request",
  "detail": "Unknown parameter `limits`. Did you mean `limit`?",
  "fix": "Correct the fields that `errors` names and send the request again.",
  "retryable": false,
  "request_id": "req_x4fU0CjTqYVvN1mW2kLr",
  "origin": null,
  "errors": [{"parameter": "limits", "detail": "Unknown parameter `limits`. Did you mean `limit`?"}]
}
```

Programs should test `code`, which never changes; `title`, `detail` and `fix` are for people and may change. New
versions add codes: handle an unknown code by its `status` and `retryable`. `retryable` is true if the same request may
succeed later; `Retry-After` says when. `errors` names each invalid field, by a JSON pointer into the body or by the
name of a parameter. `origin` has the mail server's response if it caused the problem. `request_id` is also in the
header `Request-Id` of every response, and in every log line of the request. `type` links to the text below:
`GET /v1/problems/{code}` returns it as JSON, and as a page for browsers.
"""


def errors_page() -> str:
    """Return the page as Markdown."""
    sections = ["\n".join((f"## {name}", *_rows(rows))) for name, rows in SECTIONS.items()]
    return "\n".join((_HEAD, *sections))


def _rows(rows: tuple[Problem, ...]) -> Iterator[str]:
    for row in rows:
        retry = "retryable" if row.is_retryable else "not retryable"
        yield f"### `{row.code}`\n{row.title}. HTTP {row.status}, {retry}.\n"
        yield f"- **When**: {row.when}\n- **Why**: {row.why}\n- **What to do**: {row.what_to_do}\n"


if __name__ == "__main__":
    sys.stdout.write(errors_page())
