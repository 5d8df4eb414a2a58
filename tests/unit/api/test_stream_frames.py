"""Frames of the stream."""

import asyncio

import orjson
import pytest
from app.api.problems import problem_of
from app.api.schemas.stream import ErrorFrame
from app.api.stream.calls import _sender_of
from app.api.stream.session import error_frame
from app.cause import Cause, caused_by
from app.errors import GatewayError, InvalidRequest, MailboxNotFound, StateExpired

EXPIRED = StateExpired("Read these anew", ["mbx_1", "mbx_2"])
OTHERS = [InvalidRequest.at("/accounts/0", "There is no such account"), MailboxNotFound()]


@pytest.mark.parametrize("error", [EXPIRED, *OTHERS], ids=lambda error: error.code)
def test_an_error_frame_holds_the_problem_that_http_answers(error: GatewayError) -> None:
    with caused_by(Cause("req_1")):
        frame = orjson.loads(error_frame(error, "s1"))
        assert frame["problem"]["request_id"] == "req_1"
        assert frame == {"type": "error", "problem": problem_of(error), "sub_id": "s1"}
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
