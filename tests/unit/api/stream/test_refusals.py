"""A frame that is not valid is answered by an error that says where and what was meant."""

from __future__ import annotations

import json
from typing import Any

import pytest
from app.api.problems import problem_of
from app.api.schemas.stream import CLIENT_FRAME, SubscribeFrame
from app.api.stream.refusals import NO_NAMES, FrameNames, check_names, frame_error, names_in, names_of
from app.errors import InvalidRequest
from pydantic import ValidationError

SUBSCRIBE = {"type": "subscribe", "sub_id": "s", "accounts": "*"}


def _problem(text: str) -> dict[str, Any]:
    try:
        frame = CLIENT_FRAME.validate_json(text)
        assert isinstance(frame, SubscribeFrame)
        check_names(frame)
    except ValidationError as error:
        return problem_of(frame_error(error))
    except InvalidRequest as error:
        return problem_of(error)
    raise AssertionError("the frame is valid")


@pytest.mark.parametrize(
    ("frame", "pointer", "detail"),
    [
        ({"type": "subscrib"}, "/type", "Did you mean `subscribe`?"),
        ({"type": 7}, "/type", "Unknown frame type `7`."),
        ({}, "/type", "Field required"),
        ({**SUBSCRIBE, "mailbox": []}, "/mailbox", "Did you mean `mailboxes`?"),
        ({"type": "subscribe", "accounts": "*"}, "/sub_id", "Field required"),
        ({**SUBSCRIBE, "accounts": ["acc_1", 7]}, "/accounts/1", "valid string"),
        ({**SUBSCRIBE, "types": ["message.create"]}, "/types/0", "Did you mean `message.created`?"),
        ({**SUBSCRIBE, "types": ["mesage.*"]}, "/types/0", "Did you mean `message.*`?"),
        ({**SUBSCRIBE, "roles": ["sent", "inbx"]}, "/roles/1", "Did you mean `inbox`?"),
    ],
)
def test_a_mistake_is_named_by_a_pointer_and_the_nearest_known_name(
    frame: dict[str, object], pointer: str, detail: str
) -> None:
    problem = _problem(json.dumps(frame))

    assert problem["code"] == "invalid_request"
    [fault] = [each for each in problem["errors"] if each["pointer"] == pointer]
    assert detail in fault["detail"]


@pytest.mark.parametrize("text", ["", "{", "[" * 5_000, "\x00"])
def test_a_frame_that_is_not_json_is_malformed(text: str) -> None:
    assert _problem(text)["code"] == "malformed_request"


@pytest.mark.parametrize("types", [["message.*"], ["quota.changed", "thread.*"], ["draft.updated", "job.*"]])
def test_types_patterns_and_types_of_the_contract_may_be_named(types: list[str]) -> None:
    frame = CLIENT_FRAME.validate_python({**SUBSCRIBE, "types": types, "roles": ["inbox", "trash"]})

    assert isinstance(frame, SubscribeFrame)
    check_names(frame)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('{"type": "subscribe", "sub_id": "s", "typs": []}', FrameNames("s")),
        ('{"type": "request", "id": "7", "method": "PUT", "path": "/v1"}', FrameNames(None, "7")),
        ('{"type": "subscribe", "sub_id": 7, "id": ""}', NO_NAMES),
        ('{"type": "request", "id": "%s"}' % ("x" * 65), NO_NAMES),
        ("[" * 100_000, NO_NAMES),
        ('["sub_id"]', NO_NAMES),
        ("nonsense", NO_NAMES),
    ],
)
def test_an_error_has_the_names_that_the_client_gave_to_its_frame(text: str, names: FrameNames) -> None:
    assert names_in(text) == names


def test_an_error_has_the_names_of_a_valid_frame() -> None:
    assert names_of(CLIENT_FRAME.validate_python(SUBSCRIBE)) == FrameNames("s")
    assert names_of(CLIENT_FRAME.validate_python({"type": "ping", "id": "p"})) == FrameNames(None, "p")
