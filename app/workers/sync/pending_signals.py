"""Signals of a watch that have not been processed yet, merged into one so that they never pile up."""

from __future__ import annotations

import asyncio

from app.mail.backend import Signal


class PendingSignals:
    """A queue of at most one merged signal."""

    def __init__(self) -> None:
        self._signal: Signal | None = None
        self._has_signal = asyncio.Event()

    def add(self, signal: Signal) -> None:
        self._signal = signal if self._signal is None else self._signal.followed_by(signal)
        self._has_signal.set()

    async def take(self) -> Signal:
        """Wait for a signal and return it."""
        await self._has_signal.wait()
        signal, self._signal = self._signal, None
        self._has_signal.clear()
        assert signal is not None
        return signal
