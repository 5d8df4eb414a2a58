"""Signals of a watch that wait to be acted on. They are merged, so they never pile up."""

from __future__ import annotations

import asyncio

from app.mail.backend import Signal


class PendingSignals:
    """Signals that have not been processed yet."""

    def __init__(self) -> None:
        self._signal: Signal | None = None
        self._is_there = asyncio.Event()

    def add(self, signal: Signal) -> None:
        self._signal = signal if self._signal is None else self._signal.followed_by(signal)
        self._is_there.set()

    async def take(self) -> Signal:
        """Wait for the next one."""
        await self._is_there.wait()
        signal, self._signal = self._signal, None
        self._is_there.clear()
        assert signal is not None
        return signal
