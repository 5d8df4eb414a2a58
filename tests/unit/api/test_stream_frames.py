"""Frames of the stream."""

import asyncio

import orjson
import pytest
from app.api.openapi import describe_stream
from app.api.problems import problem_of
from app.api.schemas import stream
from app.api.schemas.base import RequestModel
from app.api.schemas.stream import CLIENT_FRAME, ErrorFrame, SubscribeFrame
from app.api.schemas.stream_examples import FRAME_EXAMPLES
from app.api.stream.calls import _sender_of
from app.api.stream.refusals import FrameNames, check_names
from app.api.stream.session import error_frame
from app.cause import Cause, caused_by
from app.errors import GatewayError, InvalidRequest, MailboxNotFound, StateExpired

EXPIRED = StateExpired("Read these anew", ["mbx_1", "mbx_2"])
OTHERS = [InvalidRequest.at("/accounts/0", "There is no such account"), MailboxNotFound()]


@pytest.mark.parametrize("error", [EXPIRED, *OTHERS], ids=lambda error: error.code)
def test_an_error_frame_holds_the_problem_that_http_answers(error: GatewayError) -> None:
    with caused_by(Cause("req_1")):
        frame = orjson.loads(error_frame(error, FrameNames("s1")))
        assert frame["problem"]["request_id"] == "req_1"
        assert frame == {"type": "error", "problem": problem_of(error), "sub_id": "s1", "id": None}
    assert ErrorFrame.model_validate(frame).model_dump(exclude_unset=True) == frame  # as it is described


def test_an_error_frame_of_an_expired_state_names_the_mailboxes_to_read_anew() -> None:
    assert orjson.loads(error_frame(EXPIRED))["problem"]["mailbox_ids"] == ["mbx_1", "mbx_2"]


async def test_a_call_on_the_socket_never_seems_to_have_lost_its_client() -> None:
    """It is cancelled when the socket closes; until then whoever watches for a disconnect waits."""
    receive = _sender_of(b"{}")

    assert (await receive())["body"] == b"{}"
    watching = asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    assert not watching.done()
    watching.cancel()


@pytest.mark.parametrize("name", FRAME_EXAMPLES)
def test_the_examples_of_a_frame_are_frames(name: str) -> None:
    model = getattr(stream, name)
    for example in FRAME_EXAMPLES[name]:
        frame = model.model_validate(example)

        assert frame.model_dump(mode="json", by_alias=True, exclude_unset=True) == example
        if isinstance(frame, RequestModel):
            assert CLIENT_FRAME.validate_python(example) == frame


def test_types_and_roles_of_a_subscription_are_enumerated() -> None:
    document = describe_stream()["components"]["schemas"]
    types = document["SubscribedType"]["enum"]
    roles = document["SubscribeFrame"]["properties"]["roles"]["anyOf"][0]["items"]["enum"]

    frame = SubscribeFrame.model_validate(
        {"type": "subscribe", "sub_id": "s", "accounts": "*", "types": types, "roles": roles}
    )
    check_names(frame)
    assert {"message.created", "message.*", "counts"} <= set(types)
    assert "inbox" in roles


def test_every_frame_and_every_member_of_it_is_described() -> None:
    schemas = describe_stream()["components"]["schemas"]
    frames = [name for name in schemas if name.endswith("Frame")]

    assert len(frames) > 15
    for name in frames:
        assert schemas[name].get("description"), name
        for member, schema in schemas[name]["properties"].items():
            assert member == "type" or "description" in schema or "$ref" in schema, f"{name}.{member}"
