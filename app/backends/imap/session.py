"""A logged-in IMAP connection with typed commands, the fallback beside each.

What a server advertises is a promise; of what must be ENABLED only what `ENABLED` confirms is believed (iCloud
advertises QRESYNC and never confirms it). The selected mailbox is remembered, so that the next command in the same one
costs one round trip; where it isn't selected, SELECT and a reading command leave together. UID commands only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from app.backends.imap.connection import (
    COMMAND_TIMEOUT_SECONDS,
    Completion,
    Endpoint,
    Exchange,
    ImapProtocol,
    Take,
    open_connection,
    take_all,
)
from app.backends.imap.fetched import fetched, in_slices, uids_found
from app.backends.imap.quarantine import QuarantinedMailboxes
from app.backends.imap.selected import Selected
from app.backends.sasl import Credential
from app.errors import MailboxNotFound, ServerProtocolError, ServerRefused
from app.telemetry import get_logger
from app.wire.imap import commands
from app.wire.imap.codes import ResponseCode
from app.wire.imap.commands import BodySection, KnownState
from app.wire.imap.encode import Command
from app.wire.imap.fetch import FetchedMessage, is_fetch
from app.wire.imap.framing import Response
from app.wire.imap.long_numbers import cut
from app.wire.imap.response_parser import parse_response
from app.wire.imap.responses import Enabled, Namespaces, ServerResponse, Status
from app.wire.imap.search import SearchKey
from app.wire.imap.sets import SequenceSet

log = get_logger(__name__)

WANTED = ("QRESYNC", "CONDSTORE", "UTF8=ACCEPT", "IMAP4REV2")
"""What is asked for by ENABLE where it is offered (RFC 5161)."""
CLIENT_ID = {"name": "Postgate"}
IDLE_END_SECONDS = 30.0
TEMPORARY_CODES = frozenset({"INUSE", "UNAVAILABLE", "SERVERBUG", "LIMIT"})


class Session:
    """One connection for one user at a time; see `pool` for who may use it when."""

    def __init__(self, protocol: ImapProtocol) -> None:
        self.protocol = protocol
        self.enabled: frozenset[str] = frozenset()
        self.prefix = ""
        self.delimiter: str | None = "/"
        self.foreign: tuple[tuple[str, str | None], ...] = ()
        """Prefix and delimiter of the namespaces where other people's and shared mailboxes are."""
        self.selected: Selected | None = None
        self.was_used = False
        self.avoided = QuarantinedMailboxes()
        """What is not to be asked on this connection; see `Origin.open`."""
        self.fetch_seconds = COMMAND_TIMEOUT_SECONDS
        """For a FETCH of rows."""
        self.opened: set[str] = set()
        """Mailboxes that were selected at some time."""

    @classmethod
    async def open(cls, endpoint: Endpoint, credential: Credential) -> Session:
        """Connect, log in and agree on extensions. Raises what `open_connection` raises."""
        session = cls(await open_connection(endpoint, credential))
        try:
            await session.agree()
        except BaseException:
            session.close()
            raise
        return session

    def close(self) -> None:
        self.protocol.leave()

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call back once when the connection has ended, now if it has."""
        if self.protocol.lost is not None:
            callback()
        else:
            self.protocol.on_lost.append(callback)

    # ---- capabilities

    def has(self, *names: str) -> bool:
        """Whether all of these are offered; what needs ENABLE counts only when it was confirmed."""
        return all(name in self.enabled if name in WANTED else name in self.protocol.offered for name in names)

    @property
    def is_courier(self) -> bool:
        return b"Courier-IMAP" in self.protocol.greeting.result().text

    @property
    def keeps_modseq(self) -> bool:
        """Whether CONDSTORE can be used: it needs no ENABLE, any command of it turns it on (RFC 7162 §3.1)."""
        return "CONDSTORE" in self.protocol.offered or self.has("QRESYNC")

    @property
    def is_utf8(self) -> bool:
        """Whether mailbox names are UTF-8 on the wire."""
        return bool(self.enabled & {"UTF8=ACCEPT", "IMAP4REV2"})

    @property
    def capabilities(self) -> frozenset[str]:
        """Those that may be used."""
        return frozenset(self.protocol.offered) - frozenset(WANTED) | self.enabled

    async def agree(self) -> None:
        """ENABLE, ID and NAMESPACE in one round trip; a server that refuses one goes without."""
        offered = self.protocol.offered
        wanted = [name for name in WANTED if name in offered] if "ENABLE" in offered else []
        asked = [commands.enable(wanted)] if wanted else []
        asked += [commands.identify(CLIENT_ID)] if "ID" in offered else []
        asked += [commands.namespace()] if "NAMESPACE" in offered else []
        for completion in await self.run(*asked):
            for response in self.parsed(completion):
                if isinstance(response, Enabled):
                    self.enabled |= response.names & frozenset(WANTED)
                elif isinstance(response, Namespaces):
                    self.foreign = (*response.others, *response.shared)
                    if response.personal:
                        self.prefix, self.delimiter = response.personal[0]

    async def compress(self) -> None:
        """COMPRESS=DEFLATE (RFC 4978) where it is offered; a server that refuses goes without."""
        if self.has("COMPRESS=DEFLATE"):
            await self.run(commands.compress())

    # ---- running commands

    async def run(self, *asked: Command, take: Take | None = None) -> list[Completion]:
        """Run commands, pipelined, and return how each ended, in order."""
        exchanges = [self._exchange(command, take) for command in asked]
        try:
            for exchange in exchanges:
                await self.protocol.submit(exchange)
            return [await self.protocol.settle(exchange) for exchange in exchanges]
        except BaseException:
            for exchange in exchanges:
                exchange.abandon()
            raise

    async def do(self, command: Command, take: Take | None = None) -> Completion:
        """Run one command that must succeed. Raises ServerRefused, ServerProtocolError."""
        return (await self.run(command, take=take))[0].check()

    async def upload(self, command: Command, content: AsyncIterator[bytes]) -> Completion:
        """Run a command that holds a literal without its data, which `content` gives."""
        exchange = Exchange(command, self.protocol.new_tag(), content=content)
        await self.protocol.submit(exchange)
        return await self.protocol.settle(exchange)

    def parsed(self, completion: Completion, *, is_strict: bool = False) -> list[ServerResponse]:
        """The untagged responses of a command, but FETCH, which is read where it is expected.

        A line that cannot be read is left out: it costs the other lines nothing. Where it `is_strict`, it raises
        ServerProtocolError.
        """
        found = (self._read(response, is_strict) for response in completion.responses if not is_fetch(response))
        return [response for response in found if response is not None]

    async def parsed_numbers(self, completion: Completion) -> list[ServerResponse]:
        """The same of a command that may be answered by many numbers, which are read with pauses for others."""
        pieces = (piece for response in completion.responses if not is_fetch(response) for piece in cut(response))
        found = [self._read(piece, is_strict=False) async for piece in in_slices(pieces)]
        return [response for response in found if response is not None]

    def _read(self, response: Response, is_strict: bool) -> ServerResponse | None:
        try:
            return parse_response(response, is_utf8=self.is_utf8)
        except ServerProtocolError as error:
            if is_strict:
                raise
            log.warning("line_not_read", error=error.detail)
            return None

    def codes(self, completion: Completion, name: str) -> list[ResponseCode]:
        """The response codes of this name, untagged ones first."""
        statuses = [response for response in self.parsed(completion) if isinstance(response, Status)]
        found = [*(status.code for status in statuses), completion.code]
        return [code for code in found if code is not None and code.name == name]

    def _exchange(self, command: Command, take: Take | None = None) -> Exchange:
        return Exchange(command, self.protocol.new_tag(), take=take)

    # ---- selecting

    async def select(
        self, name: str, *, known: KnownState | None = None, take: Take | None = None
    ) -> tuple[Selected, Completion]:
        """Select a mailbox, also when it is selected already. Raises MailboxNotFound, ServerRefused."""
        exchange = await self.begin_select(name, known=known, take=take)
        completion = await self.protocol.settle(exchange)
        return self._selected_by(name, completion), completion

    async def begin_select(self, name: str, *, known: KnownState | None = None, take: Take | None = None) -> Exchange:
        """Send a SELECT, to be followed by reading commands at once and settled by `end_select`."""
        self.selected = None
        exchange = self._exchange(self._select_command(name, known), take)
        await self.protocol.submit(exchange)
        return exchange

    async def end_select(self, name: str, exchange: Exchange) -> Selected:
        return self._selected_by(name, await self.protocol.settle(exchange))

    def is_in(self, name: str) -> bool:
        """Whether this mailbox is selected. What is seen of it may be old: see `in_mailbox`."""
        return self.selected is not None and self.selected.name == name

    async def in_mailbox(self, name: str, *asked: Command, is_anew: bool = False) -> list[Completion]:
        """Run reading commands in a mailbox; SELECT leaves with them where it must. Each has succeeded.

        A mailbox that stays selected is seen as it was when the server last looked, and Dovecot may look after the
        commands that were sent with a NOOP. `is_anew` sends a SELECT in any case, which all servers look at first.
        What changes mail is to be run after `ensure`: only then is it known where it would be done.
        """
        if self.is_in(name) and not is_anew:
            return [completion.check() for completion in await self.run(*asked)]
        self.selected = None
        first, *rest = await self.run(self._select_command(name), *asked)
        self._selected_by(name, first)
        return [completion.check() for completion in rest]

    async def ensure(self, name: str) -> Selected:
        """The mailbox, selected now where it wasn't."""
        if not self.is_in(name):
            await self.select(name)
        assert self.selected is not None
        return self.selected

    async def open_each(self, names: Sequence[str]) -> None:
        """Select mailboxes one after the other, as far as they can be; which one stays selected is not known."""
        self.selected = None
        await self.run(*[self._select_command(name) for name in names])
        self.opened.update(names)

    async def leave_mailbox(self) -> None:
        """Have no mailbox selected: UNSELECT (RFC 3691), else INBOX in its place. Never CLOSE, which expunges.

        INBOX is selected though we know of none: after `open_each` the server has one, and Courier deletes none that
        is open.
        """
        was_selected, self.selected = self.selected is not None, None
        can_unselect = self.has("UNSELECT") or self.has("IMAP4REV2")
        if can_unselect and (not was_selected or (await self.run(commands.unselect()))[0].status == "OK"):
            return
        await self.select("INBOX")

    def _select_command(self, name: str, known: KnownState | None = None) -> Command:
        condstore = self.keeps_modseq and not self.has("QRESYNC")
        known = known if self.has("QRESYNC") else None
        return commands.select(name, known=known, condstore=condstore, is_utf8=self.is_utf8)

    def _selected_by(self, name: str, completion: Completion) -> Selected:
        self.selected = None
        if completion.status != "OK":
            code = completion.code.name if completion.code else ""
            if completion.status == "NO" and code not in TEMPORARY_CODES:
                raise MailboxNotFound(f"The mail server does not open this mailbox: {completion.origin.response}")
            completion.check()
        selected = Selected.told_by(name, self.parsed(completion))
        if not self.keeps_modseq:  # Yahoo tells a HIGHESTMODSEQ and knows no CONDSTORE
            selected.highest_modseq = 0
        self.selected = selected
        self.opened.add(name)
        return selected

    # ---- fetching

    async def fetch(
        self, name: str, uids: SequenceSet, items: Sequence[str | BodySection], *, is_tolerant: bool = False
    ) -> dict[int, FetchedMessage]:
        """UID → what was fetched; a UID that is gone is absent. A message that is missing at first is asked for again.

        Where it `is_tolerant`, a message whose response cannot be read is absent too.
        """
        was_selected = self.is_in(name)
        asked = commands.fetch(uids, items)
        found = await fetched((await self.in_mailbox(name, asked))[0], is_tolerant=is_tolerant)
        if was_selected and len(found) < len(uids):
            found = await fetched((await self.in_mailbox(name, asked, is_anew=True))[0], is_tolerant=is_tolerant)
        return found

    async def fetch_since(self, name: str, uid: int, items: Sequence[str | BodySection]) -> dict[int, FetchedMessage]:
        """UID → what was fetched of the messages from a UID on, as the mailbox is now; or of the last one alone."""
        asked = commands.fetch(SequenceSet.parse(f"{max(1, uid)}:*"), items)
        return await fetched((await self.in_mailbox(name, asked, is_anew=True))[0], is_tolerant=True)

    async def begin_fetch(self, uids: SequenceSet, items: Sequence[str | BodySection]) -> Exchange:
        """Send a UID FETCH in the selected mailbox, to be settled later: so the next batch is on its way meanwhile."""
        exchange = self._exchange(commands.fetch(uids, items))
        exchange.timeout_seconds = self.fetch_seconds
        await self.protocol.submit(exchange)
        return exchange

    # ---- idling

    async def begin_idle(self, seconds: float) -> Exchange:
        """IDLE, for so many seconds at most once it has begun. What comes goes to `on_untagged`. ServerRefused."""
        exchange = self._exchange(commands.idle(), take_all)
        await self.protocol.submit(exchange)
        if await self.protocol.go_ahead(exchange) is None:
            completion = await self.protocol.settle(exchange)
            if completion.status != "OK":
                raise ServerRefused(origin=completion.origin)
        if not exchange.is_done:  # some servers end it at once
            self.protocol.deadlines.renew(exchange, seconds)
        return exchange

    async def end_idle(self, exchange: Exchange) -> None:
        """DONE, unless the server has ended it by itself. Raises Unreachable; TimedOut for a server that is silent."""
        if not exchange.is_done:
            self.protocol.send(b"DONE")
            self.protocol.deadlines.renew(exchange, IDLE_END_SECONDS)
        await self.protocol.settle(exchange)

    # ---- searching

    async def search(self, name: str, key: SearchKey) -> SequenceSet:
        """The UIDs of a mailbox, as it is now, that match: ESEARCH, whose answer is a set, else SEARCH."""
        returning = ["ALL"] if "ESEARCH" in self.protocol.offered or self.has("IMAP4REV2") else None
        asked = commands.search(key, returning=returning, is_utf8=self.is_utf8)
        told = await self.parsed_numbers((await self.in_mailbox(name, asked, is_anew=True))[0])
        return await uids_found(told)
