"""The collector's pauses stay short however much the process holds."""

from __future__ import annotations

import gc

import pytest
from app.runtime.memory import LONG_SECONDS, UNFREEZE_SECONDS, ShortCollections


class Collector:
    """Notes what is asked of the collector; its collections take `seconds`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.cpu = self.now = 0.0
        monkeypatch.setattr(gc, "freeze", lambda: self.asked.append("freeze"))
        monkeypatch.setattr(gc, "unfreeze", lambda: self.asked.append("unfreeze"))
        self._short = ShortCollections(lambda: self.cpu, lambda: self.now)

    def collects(self, seconds: float, generation: int = 2) -> None:
        self._short("start", {"generation": generation})
        self.cpu += seconds
        self._short("stop", {"generation": generation})


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    return Collector(monkeypatch)


def test_what_survives_a_long_full_collection_is_set_aside(collector: Collector) -> None:
    collector.collects(LONG_SECONDS / 2)
    collector.collects(2 * LONG_SECONDS, generation=1)
    assert collector.asked == []

    collector.collects(2 * LONG_SECONDS)

    assert collector.asked == ["freeze"]


def test_what_was_set_aside_is_looked_at_once_a_day(collector: Collector) -> None:
    collector.collects(2 * LONG_SECONDS)
    collector.now += UNFREEZE_SECONDS
    for _ in range(3):
        collector.collects(2 * LONG_SECONDS)

    assert collector.asked == ["freeze", "unfreeze", "freeze", "freeze"]


def test_the_next_full_collection_does_not_look_at_what_was_set_aside() -> None:
    short = ShortCollections(iter([0.0, 1.0]).__next__)
    held = [[number] for number in range(1_000)]
    try:
        short("start", {"generation": 2})
        short("stop", {"generation": 2})

        assert not {id(one) for one in gc.get_objects()} & {id(one) for one in held}
    finally:
        gc.unfreeze()
