from __future__ import annotations

from dataclasses import replace

from app.mail.types import AccountId, Mailbox, MailboxId
from app.workers.sync.modseq_check import SECONDS_A_MESSAGE, SHORTEST_SECONDS, ModseqCheck

INBOX = Mailbox(
    MailboxId("mbx_1"), AccountId("acc_1"), "INBOX", None, 7, 11, 5, 10, 0, True, True, None, "INBOX", "/", True
)


def test_a_modseq_that_moved_is_believed() -> None:
    doubts = ModseqCheck(lambda: 0.0)

    assert not doubts.may_compare(INBOX, replace(INBOX, highest_modseq=6))
    assert doubts.may_compare(INBOX, INBOX)


def test_after_a_comparison_that_found_nothing_the_next_waits_the_longer_the_larger_the_mailbox_is() -> None:
    now = [0.0]
    doubts = ModseqCheck(lambda: now[0])
    for total, seconds in ((10, SHORTEST_SECONDS), (100_000, 100_000 * SECONDS_A_MESSAGE)):
        doubts.note(replace(INBOX, total=total), has_found=False)
        now[0] += seconds - 1
        assert not doubts.may_compare(INBOX, INBOX)
        now[0] += 1
        assert doubts.may_compare(INBOX, INBOX)

    doubts.note(INBOX, has_found=True)
    assert doubts.may_compare(INBOX, INBOX)
