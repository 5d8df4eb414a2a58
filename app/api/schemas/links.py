"""Schemas of signed links."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.api.schemas.base import AnswerModel, Id, Integer, RequestModel, Time
from app.services.access.links import DEFAULT_SECONDS, MAX_SECONDS


class CreateLink(RequestModel):
    """The resource that a link opens: exactly one of `attachment_id`, `part` and `raw`."""

    attachment_id: Id | None = Field(None, description="The id of an attachment")
    part: Id | None = Field(None, description="A part by its section number, such as `2.1`")
    raw: Literal[True] | None = Field(None, description="The message as it was received")
    expires_in_seconds: Annotated[Integer, Field(ge=1, le=MAX_SECONDS)] = Field(
        DEFAULT_SECONDS, description="At most 24 hours"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.attachment_id, self.part, self.raw)) != 1:
            raise ValueError("Give exactly one of attachment_id, part and raw")
        return self


class SignedLink(AnswerModel):
    """A URL that opens one resource without a header, until it expires or its sign-in or token ends."""

    url: str = Field(description="The URL that opens the resource; treat it as a secret")
    expires_at: Time = Field(description="When it expires; earlier if the sign-in or token that created it ends")
