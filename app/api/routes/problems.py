"""A page for each kind of problem: what `type` in a problem points to."""

from __future__ import annotations

from app.api.deps import PublicAccess
from app.api.problems import kinds_of_problem, problems, status_of
from app.api.routing import Router
from app.api.schemas.base import AnswerModel
from app.errors import NotFound

router = Router(prefix="/v1/problems", tags=["service"], dependencies=[PublicAccess])


class ProblemPage(AnswerModel):
    """What a kind of problem means."""

    code: str
    title: str
    status: int
    retryable: bool
    description: str


@router.get("/{code}", operation_id="getProblem", responses=problems(NotFound))
async def get_problem(code: str) -> ProblemPage:
    """Explain a kind of problem."""
    kind = kinds_of_problem().get(code)
    if kind is None:
        raise NotFound("There is no problem with this code")
    return ProblemPage(
        code=code,
        title=kind.title,
        status=status_of(kind),
        retryable=kind.is_retryable,
        description=(kind.__doc__ or kind.title).strip(),
    )
