"""Parameters that lists share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

Limit = Annotated[int, Query(ge=1, le=500, description="How many items at most")]
Cursor = Annotated[str | None, Query(max_length=4096, description="A `next_cursor` or `prev_cursor` of this list")]
