"""`counts` frames: the numbers of unread and of all messages, for the badges of an app."""

from __future__ import annotations

from collections.abc import Callable, Collection, Set

from app.api.stream.frames import counts_frame
from app.api.stream.socket import StreamSocket
from app.cluster.bus import Waiter
from app.mail.types import AccountId
from app.services.following.counts import Counts, CountsWatch, Sight, counts_topic


class Badges:
    """Sends the counts of the accounts of one stream; each frame holds what changed since the last one."""

    def __init__(self, socket: StreamSocket, counts: Counts, waiter: Waiter) -> None:
        self._socket = socket
        self._counts = counts
        self._waiter = waiter
        self._watches: dict[AccountId, CountsWatch] = {}

    def follow(self, account_ids: Set[AccountId]) -> None:
        """Watch these accounts and no others."""
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
        """Send what is new of the accounts among the topics. `sight_of`: the mailboxes to be shown."""
        for account_id in [each for each in self._watches if counts_topic(each) in topics]:
            watch = self._watches.get(account_id)
            news = None if watch is None else watch.news(sight_of(account_id))
            if news is not None:
                await self._socket.send_frame(counts_frame(news))
