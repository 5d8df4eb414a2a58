from __future__ import annotations

from app.services.reading.cache import RecentBytes


def test_what_was_put_is_there_until_the_room_is_needed() -> None:
    recent = RecentBytes(100)
    recent.put("a", b"x" * 11)
    recent.put("b", b"y" * 11)
    assert recent.get("a") == b"x" * 11
    for number in range(7):
        recent.put(str(number), b"z" * 11)

    assert recent.get("a") == b"x" * 11  # it was used after b
    assert recent.get("b") is None


def test_one_large_value_does_not_push_out_the_others() -> None:
    recent = RecentBytes(80)
    recent.put("a", b"x")
    recent.put("large", b"y" * 50)

    assert recent.get("large") is None
    assert recent.get("a") == b"x"


def test_a_value_put_again_counts_once() -> None:
    recent = RecentBytes(160)
    for _ in range(100):
        recent.put("a", b"x" * 19)
    recent.put("b", b"y" * 19)

    assert (recent.get("a"), recent.get("b")) == (b"x" * 19, b"y" * 19)
