from __future__ import annotations

from app.workers.text_index_quota import NO_LIMIT, level
from hypothesis import given
from hypothesis import strategies as st


def test_only_what_is_too_large_for_all_to_fit_gives_way() -> None:
    assert level([10, 20, 30], 60) == NO_LIMIT
    assert level([10, 20, 30], 50) == 20
    assert level([10, 20, 30], 45) == 17
    assert level([], 0) == NO_LIMIT


@given(st.lists(st.integers(0, 1_000)), st.integers(0, 5_000))
def test_what_is_left_fits_and_no_more_than_rounding_goes_unused(sizes: list[int], total: int) -> None:
    allowed = level(sizes, total)
    left = sum(min(size, allowed) for size in sizes)
    assert left <= total
    assert left == sum(sizes) or left > total - len(sizes)
