"""The page of each problem code, which the `type` of a problem links to."""

from __future__ import annotations

from html import escape
from typing import Annotated

from fastapi import Header, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from app.api.connect_pages import page_of
from app.api.deps import PublicAccess
from app.api.problems import problems
from app.api.routing import Router
from app.api.schemas.base import AnswerModel
from app.errors import NotFound
from app.problems import PROBLEMS, Problem

router = Router(prefix="/v1/problems", tags=["service"], dependencies=[PublicAccess])


class ProblemPage(AnswerModel):
    """The explanation of a kind of problem."""

    code: str
    title: str
    status: int
    retryable: bool = Field(description="Whether the same request may succeed later")
    when: str = Field(description="When it is returned")
    why: str = Field(description="Why")
    what_to_do: str = Field(description="What a developer or operator can do")
    fix: str | None = Field(description="The same in one sentence, as in problem responses")


@router.get(
    "/{code}",
    operation_id="getProblem",
    response_model=ProblemPage,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **problems(NotFound)},
)
async def get_problem(
    code: str, accept: Annotated[str, Header(description="`text/html` for a page")] = ""
) -> ProblemPage | Response:
    """Get the explanation of a problem code, as JSON or as a page for browsers."""
    row = PROBLEMS.get(code)
    if row is None:
        raise NotFound("No problem has this code")
    if "text/html" in accept:
        return _html(row)
    return ProblemPage(
        code=row.code,
        title=row.title,
        status=row.status,
        retryable=row.is_retryable,
        when=row.when,
        why=row.why,
        what_to_do=row.what_to_do,
        fix=row.fix,
    )


def _html(row: Problem) -> HTMLResponse:
    parts = (("When", row.when), ("Why", row.why), ("What to do", row.what_to_do))
    body = "".join(f"<h2>{escape(name)}</h2><p>{escape(text)}</p>" for name, text in parts)
    status = f"<p>HTTP {row.status}, <code>{row.code}</code>. {'Retry later.' if row.is_retryable else ''}</p>"
    return page_of(row.title, status + body, 200)
