"""`counts` frames: unread and total messages of mailboxes, for badges."""

from __future__ import annotations

from collections.abc import Callable, Collection, Set

from app.api.stream.frames import counts_frame
from app.api.stream.socket import StreamSocket
from app.cluster.bus import Waiter
from app.mail.types import AccountId
from app.services.following.counts import Counts, CountsWatch, Sight, counts_topic


class Badges:
    """Sends the counts of a stream's accounts; each frame has the counts that changed since the last frame."""

    def __init__(self, socket: StreamSocket, counts: Counts, waiter: Waiter) -> None:
        self._socket = socket
        self._counts = counts
        self._waiter = waiter
        self._watches: dict[AccountId, CountsWatch] = {}

    def follow(self, account_ids: Set[AccountId]) -> None:
        """Watch these accounts only."""
        for account_id in account_ids - self._watches.keys():
            self._watches[account_id] = self._counts.watch(account_id, self._waiter)
        for account_id in self._watches.keys() - account_ids:
            self._watches.pop(account_id).close()

    def renew(self, account_ids: Collection[AccountId]) -> None:
        """Send all counts of these accounts again."""
        for account_id in account_ids:
            if account_id in self._watches:
                self._watches[account_id].renew()

    async def send(self, topics: Set[str], sight_of: Callable[[AccountId], Sight]) -> None:
        """Send changed counts of the accounts in the topics. `sight_of`: the mailboxes to show."""
        for account_id in [each for each in self._watches if counts_topic(each) in topics]:
            watch = self._watches.get(account_id)
            news = None if watch is None else watch.news(sight_of(account_id))
            if news is not None:
                await self._socket.send_frame(counts_frame(news))
