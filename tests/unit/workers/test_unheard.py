"""Which mailboxes are compared when, where no number tells that flags changed."""

from __future__ import annotations

from dataclasses import replace

from app.mail.types import AccountId, Mailbox, MailboxId
from app.workers.sync.flag_polling import COMPARE_SECONDS, FlagPolling


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def mailbox(name: str, *, total: int = 1, highest_modseq: int = 0, is_complete: bool = True) -> Mailbox:
    return Mailbox(
        account_id=AccountId("acc"),
        id=MailboxId(name),
        path=name,
        origin_name=name,
        delimiter="/",
        role=None,
        uid_validity=1,
        uid_next=2,
        highest_modseq=highest_modseq,
        total=total,
        unread=0,
        is_subscribed=True,
        is_selectable=True,
        is_complete=is_complete,
        parent_id=None,
    )


def test_a_mailbox_is_due_a_turn_after_it_was_first_seen_and_again_after_each() -> None:
    clock = Clock()
    unheard = FlagPolling(clock)
    small = mailbox("small")

    assert unheard.due([small]) == []
    assert unheard.seconds == COMPARE_SECONDS
    clock.now += COMPARE_SECONDS
    assert unheard.due([small]) == [small]
    assert unheard.due([small]) == []
    clock.now += COMPARE_SECONDS
    assert unheard.due([small]) == [small]


def test_a_large_mailbox_is_compared_more_rarely() -> None:
    clock = Clock()
    unheard = FlagPolling(clock)
    large = mailbox("large", total=100_000)
    unheard.due([large])

    clock.now += 999
    assert unheard.due([large]) == []
    clock.now += 1
    assert unheard.due([large]) == [large]


def test_what_has_a_modseq_or_no_first_sync_yet_is_never_due() -> None:
    clock = Clock()
    unheard = FlagPolling(clock)
    others = [mailbox("told", highest_modseq=5), mailbox("unfilled", is_complete=False)]
    others.append(replace(mailbox("parent"), is_selectable=False))
    unheard.due(others)

    clock.now += 10 * COMPARE_SECONDS
    assert unheard.due(others) == []
    assert unheard.seconds == COMPARE_SECONDS
