"""docs/errors.md, made from the table: `python -m app.problems.page`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from app.problems import SECTIONS, Problem

_HEAD = """# Errors

Generated from `app/problems` by `make openapi`.

Every error is answered as `application/problem+json` (RFC 9457):

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

Decide by `code`, which never changes; `title`, `detail` and `fix` are for people and may. New versions add codes:
treat a code that your program does not know by its `status` and `retryable`. `retryable` says whether the same
request may succeed later; `Retry-After` says when. `errors` names each invalid field, by a JSON pointer into the
body or by the name of a parameter. `origin` has the answer of the mail server where it is the cause. `request_id` is
also in the header `Request-Id` of every answer, and in every log line of the request. `type` links to the text below:
`GET /v1/problems/{code}` answers it as JSON, and as a page to a browser.
"""


def errors_page() -> str:
    """The page as Markdown."""
    sections = ["\n".join((f"## {name}", *_rows(rows))) for name, rows in SECTIONS.items()]
    return "\n".join((_HEAD, *sections))


def _rows(rows: tuple[Problem, ...]) -> Iterator[str]:
    for row in rows:
        retry = "retryable" if row.is_retryable else "not retryable"
        yield f"### `{row.code}`\n{row.title}. HTTP {row.status}, {retry}.\n"
        yield f"- **When**: {row.when}\n- **Why**: {row.why}\n- **What to do**: {row.what_to_do}\n"


if __name__ == "__main__":
    sys.stdout.write(errors_page())
