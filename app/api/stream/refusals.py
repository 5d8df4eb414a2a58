"""Converts errors in a client's frame to problems of the API."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from pydantic import ValidationError

from app.api.problems import invalid
from app.api.schemas.stream import SubscribeFrame
from app.errors import Fault, GatewayError, InvalidRequest, MalformedRequest
from app.mail.events import EVENTS, PATTERNS, PLANNED
from app.mail.nearest import unknown
from app.mail.types import Role
from app.services.following.subscriptions import COUNTS

NAME_LIMIT_CHARS = 64
ROLES = [role.value for role in Role]
_IS_NAME = re.compile(r"[A-Za-z_]+")
"""Matches a field's name, but not `list[…]` or `constrained-str`."""


class FrameNames(NamedTuple):
    """The client's ids of a frame, which it needs to match an error to the frame."""

    sub_id: str | None = None
    id: str | None = None


NO_NAMES = FrameNames()


def names_of(frame: object) -> FrameNames:
    """Return the names of a valid frame."""
    return FrameNames(getattr(frame, "sub_id", None), getattr(frame, "id", None))


def names_in(text: str | None) -> FrameNames:
    """Return the names in an invalid frame, if it has any."""
    try:
        frame = json.loads(text or "")
    except (ValueError, RecursionError):
        return NO_NAMES
    if not isinstance(frame, dict):
        return NO_NAMES
    ids = (frame.get("sub_id"), frame.get("id"))
    return FrameNames(*(name if isinstance(name, str) and 0 < len(name) <= NAME_LIMIT_CHARS else None for name in ids))


def frame_error(error: ValidationError) -> GatewayError:
    """Return the error of an invalid frame: each fault with a JSON pointer and a suggested name."""
    faults = error.errors(include_input=False, include_url=False)
    if faults[0]["type"] == "json_invalid":
        return MalformedRequest("The frame is not JSON", [Fault("The frame is not JSON", pointer="")])
    if faults[0]["type"] == "union_tag_invalid":
        context = faults[0]["ctx"]
        types = context["expected_tags"].replace("'", "").split(", ")
        return InvalidRequest.at("/type", unknown("frame type", str(context["tag"]), types))
    if faults[0]["type"] == "union_tag_not_found":
        return InvalidRequest.at("/type", "Field required")
    return invalid([{**each, "loc": ("body", *_steps(each["loc"]))} for each in faults])


def _steps(loc: tuple[int | str, ...]) -> list[int | str]:
    """Return a location in a frame without Pydantic's names of union members."""
    return [step for step in loc[1:] if isinstance(step, int) or _IS_NAME.fullmatch(step)]


def check_names(frame: SubscribeFrame) -> None:
    """Raise InvalidRequest if a subscription has an unknown type or role."""
    for number, name in enumerate(frame.types or ()):
        if name != COUNTS and name not in EVENTS and name not in PATTERNS and name not in PLANNED:
            raise InvalidRequest.at(f"/types/{number}", unknown("event type", name, [*EVENTS, *PATTERNS, COUNTS]))
    for number, name in enumerate(frame.roles or ()):
        if name not in ROLES:
            raise InvalidRequest.at(f"/roles/{number}", unknown("role", name, ROLES))
