"""Frames of the stream."""

import pytest
from app.api.problems import problem_of
from app.api.stream.session import error_frame
from app.errors import GatewayError, InvalidRequest, MailboxNotFound, StateExpired

EXPIRED = StateExpired("Read these anew", ["mbx_1", "mbx_2"])
OTHERS = [InvalidRequest.at("/accounts/0", "There is no such account"), MailboxNotFound()]


@pytest.mark.parametrize("error", [EXPIRED, *OTHERS], ids=lambda error: error.code)
def test_an_error_frame_holds_the_whole_problem_that_http_answers(error: GatewayError) -> None:
    frame = error_frame(error, "s1").model_dump(mode="json")

    assert frame["problem"].keys() == problem_of(error).keys()
    assert (frame["type"], frame["sub_id"], frame["problem"]["code"]) == ("error", "s1", error.code)


def test_an_error_frame_of_an_expired_state_names_the_mailboxes_to_read_anew() -> None:
    assert error_frame(EXPIRED).model_dump(mode="json")["problem"]["mailbox_ids"] == ["mbx_1", "mbx_2"]
