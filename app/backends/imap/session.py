"""A logged-in IMAP connection with typed commands and their fallbacks.

Extensions that need ENABLE are used only if the server confirms them by `ENABLED`: iCloud advertises QRESYNC and never
confirms it. The selected mailbox is remembered, so that a further command there costs one round trip; otherwise SELECT
is pipelined with a reading command. Uses UID commands only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from app.backends.imap.connection import (
    COMMAND_TIMEOUT_SECONDS,
    CommandCompletion,
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
"""Extensions to ENABLE if the server offers them (RFC 5161)."""
CLIENT_ID = {"name": "Postgate"}
IDLE_END_SECONDS = 30.0
TEMPORARY_CODES = frozenset({"INUSE", "UNAVAILABLE", "SERVERBUG", "LIMIT"})


class ClientSession:
    """One connection, used by one caller at a time; see `pool`."""

    def __init__(self, protocol: ImapProtocol) -> None:
        self.protocol = protocol
        self.enabled: frozenset[str] = frozenset()
        self.prefix = ""
        self.delimiter: str | None = "/"
        self.foreign: tuple[tuple[str, str | None], ...] = ()
        """Prefix and delimiter of the namespaces of other users' and shared mailboxes."""
        self.selected: Selected | None = None
        self.was_used = False
        self.avoided = QuarantinedMailboxes()
        """Mailboxes whose STATUS is not requested on this connection; see `Origin.open`."""
        self.fetch_seconds = COMMAND_TIMEOUT_SECONDS
        """Timeout of a FETCH of rows."""
        self.opened: set[str] = set()
        """Mailboxes that were selected at least once."""

    @classmethod
    async def open(cls, endpoint: Endpoint, credential: Credential) -> ClientSession:
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
        """Call `callback` once, when the connection ends or at once if it has ended."""
        if self.protocol.lost is not None:
            callback()
        else:
            self.protocol.on_lost.append(callback)

    # ---- capabilities

    def has(self, *names: str) -> bool:
        """Whether all of these can be used. An extension that needs ENABLE must have been confirmed."""
        return all(name in self.enabled if name in WANTED else name in self.protocol.offered for name in names)

    @property
    def is_courier(self) -> bool:
        return b"Courier-IMAP" in self.protocol.greeting.result().text

    @property
    def keeps_modseq(self) -> bool:
        """Whether CONDSTORE can be used. It needs no ENABLE: any of its commands activates it (RFC 7162 §3.1)."""
        return "CONDSTORE" in self.protocol.offered or self.has("QRESYNC")

    @property
    def is_utf8(self) -> bool:
        """Whether mailbox names are UTF-8 on the wire."""
        return bool(self.enabled & {"UTF8=ACCEPT", "IMAP4REV2"})

    @property
    def capabilities(self) -> frozenset[str]:
        """Capabilities that can be used."""
        return frozenset(self.protocol.offered) - frozenset(WANTED) | self.enabled

    async def agree(self) -> None:
        """Send ENABLE, ID and NAMESPACE in one round trip. Refused commands are ignored."""
        offered = self.protocol.offered
        wanted = [name for name in WANTED if name in offered] if "ENABLE" in offered else []
        requests = [commands.enable(wanted)] if wanted else []
        requests += [commands.identify(CLIENT_ID)] if "ID" in offered else []
        requests += [commands.namespace()] if "NAMESPACE" in offered else []
        for completion in await self.run(*requests):
            for response in self.parsed(completion):
                if isinstance(response, Enabled):
                    self.enabled |= response.names & frozenset(WANTED)
                elif isinstance(response, Namespaces):
                    self.foreign = (*response.others, *response.shared)
                    if response.personal:
                        self.prefix, self.delimiter = response.personal[0]

    async def compress(self) -> None:
        """Enable COMPRESS=DEFLATE (RFC 4978) if it is offered. A refusal is ignored."""
        if self.has("COMPRESS=DEFLATE"):
            await self.run(commands.compress())

    # ---- running commands

    async def run(self, *requests: Command, take: Take | None = None) -> list[CommandCompletion]:
        """Run commands, pipelined, and return their completions in order."""
        exchanges = [self._exchange(command, take) for command in requests]
        try:
            for exchange in exchanges:
                await self.protocol.submit(exchange)
            return [await self.protocol.settle(exchange) for exchange in exchanges]
        except BaseException:
            for exchange in exchanges:
                exchange.abandon()
            raise

    async def do(self, command: Command, take: Take | None = None) -> CommandCompletion:
        """Run one command that must succeed. Raises ServerRefused, ServerProtocolError."""
        return (await self.run(command, take=take))[0].check()

    async def upload(self, command: Command, content: AsyncIterator[bytes]) -> CommandCompletion:
        """Run a command that contains a literal, whose data `content` provides."""
        exchange = Exchange(command, self.protocol.new_tag(), content=content)
        await self.protocol.submit(exchange)
        return await self.protocol.settle(exchange)

    def parsed(self, completion: CommandCompletion, *, is_strict: bool = False) -> list[ServerResponse]:
        """The untagged responses of a command except FETCH, which `fetched` reads.

        A line that cannot be parsed is dropped. With `is_strict`, it raises ServerProtocolError.
        """
        parsed = (self._read(response, is_strict) for response in completion.responses if not is_fetch(response))
        return [response for response in parsed if response is not None]

    async def parsed_numbers(self, completion: CommandCompletion) -> list[ServerResponse]:
        """The untagged responses of a command that may return many numbers, parsed with yields to the event loop."""
        pieces = (piece for response in completion.responses if not is_fetch(response) for piece in cut(response))
        parsed = [self._read(piece, is_strict=False) async for piece in in_slices(pieces)]
        return [response for response in parsed if response is not None]

    def _read(self, response: Response, is_strict: bool) -> ServerResponse | None:
        try:
            return parse_response(response, is_utf8=self.is_utf8)
        except ServerProtocolError as error:
            if is_strict:
                raise
            log.warning("line_not_read", error=error.detail)
            return None

    def codes(self, completion: CommandCompletion, name: str) -> list[ResponseCode]:
        """The response codes with this name, untagged ones first."""
        statuses = [response for response in self.parsed(completion) if isinstance(response, Status)]
        codes = [*(status.code for status in statuses), completion.code]
        return [code for code in codes if code is not None and code.name == name]

    def _exchange(self, command: Command, take: Take | None = None) -> Exchange:
        return Exchange(command, self.protocol.new_tag(), take=take)

    # ---- selecting

    async def select(
        self, name: str, *, known: KnownState | None = None, take: Take | None = None
    ) -> tuple[Selected, CommandCompletion]:
        """Select a mailbox, even if it is already selected. Raises MailboxNotFound, ServerRefused."""
        exchange = await self.begin_select(name, known=known, take=take)
        completion = await self.protocol.settle(exchange)
        return self._selected_by(name, completion), completion

    async def begin_select(self, name: str, *, known: KnownState | None = None, take: Take | None = None) -> Exchange:
        """Send a SELECT. Reading commands may follow at once; `end_select` waits for its completion."""
        self.selected = None
        exchange = self._exchange(self._select_command(name, known), take)
        await self.protocol.submit(exchange)
        return exchange

    async def end_select(self, name: str, exchange: Exchange) -> Selected:
        return self._selected_by(name, await self.protocol.settle(exchange))

    def is_in(self, name: str) -> bool:
        """Whether this mailbox is selected. Its state may be stale: see `in_mailbox`."""
        return self.selected is not None and self.selected.name == name

    async def in_mailbox(self, name: str, *requests: Command, is_anew: bool = False) -> list[CommandCompletion]:
        """Run reading commands in a mailbox, pipelined with SELECT if necessary. Raises unless all succeed.

        A mailbox that stays selected shows the state of the server's last refresh, and Dovecot may refresh only after
        the commands that were sent with a NOOP. `is_anew` always sends a SELECT, at which all servers refresh.
        Commands that change mail must run after `ensure`, which makes sure that the right mailbox is selected.
        """
        if self.is_in(name) and not is_anew:
            return [completion.check() for completion in await self.run(*requests)]
        self.selected = None
        first, *rest = await self.run(self._select_command(name), *requests)
        self._selected_by(name, first)
        return [completion.check() for completion in rest]

    async def ensure(self, name: str) -> Selected:
        """Select the mailbox unless it is selected, and return its state."""
        if not self.is_in(name):
            await self.select(name)
        assert self.selected is not None
        return self.selected

    async def open_each(self, names: Sequence[str]) -> None:
        """Select mailboxes in turn and ignore refusals. Afterwards it is unknown which mailbox is selected."""
        self.selected = None
        await self.run(*[self._select_command(name) for name in names])
        self.opened.update(names)

    async def leave_mailbox(self) -> None:
        """Deselect the mailbox by UNSELECT (RFC 3691), else by selecting INBOX. Never uses CLOSE, which expunges.

        INBOX is selected even if no mailbox is known to be: after `open_each` one is, and Courier refuses to delete an
        open mailbox.
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

    def _selected_by(self, name: str, completion: CommandCompletion) -> Selected:
        self.selected = None
        if completion.status != "OK":
            code = completion.code.name if completion.code else ""
            if completion.status == "NO" and code not in TEMPORARY_CODES:
                raise MailboxNotFound(f"The mail server does not open this mailbox: {completion.origin.response}")
            completion.check()
        selected = Selected.from_responses(name, self.parsed(completion))
        if not self.keeps_modseq:  # Yahoo reports HIGHESTMODSEQ without supporting CONDSTORE
            selected.highest_modseq = 0
        self.selected = selected
        self.opened.add(name)
        return selected

    # ---- fetching

    async def fetch(
        self, name: str, uids: SequenceSet, items: Sequence[str | BodySection], *, is_tolerant: bool = False
    ) -> dict[int, FetchedMessage]:
        """UID → message, without messages that do not exist. Missing messages are requested again after a SELECT.

        With `is_tolerant`, messages whose response cannot be parsed are absent too.
        """
        was_selected = self.is_in(name)
        command = commands.fetch(uids, items)
        messages = await fetched((await self.in_mailbox(name, command))[0], is_tolerant=is_tolerant)
        if was_selected and len(messages) < len(uids):
            messages = await fetched((await self.in_mailbox(name, command, is_anew=True))[0], is_tolerant=is_tolerant)
        return messages

    async def fetch_since(self, name: str, uid: int, items: Sequence[str | BodySection]) -> dict[int, FetchedMessage]:
        """UID → message, for current messages from a UID on. If there are none, contains the last message."""
        command = commands.fetch(SequenceSet.parse(f"{max(1, uid)}:*"), items)
        return await fetched((await self.in_mailbox(name, command, is_anew=True))[0], is_tolerant=True)

    async def begin_fetch(self, uids: SequenceSet, items: Sequence[str | BodySection]) -> Exchange:
        """Send a UID FETCH in the selected mailbox without waiting, so that batches can be pipelined."""
        exchange = self._exchange(commands.fetch(uids, items))
        exchange.timeout_seconds = self.fetch_seconds
        await self.protocol.submit(exchange)
        return exchange

    # ---- idling

    async def begin_idle(self, seconds: float) -> Exchange:
        """Begin IDLE for at most `seconds`. Responses go to `on_untagged`. Raises ServerRefused."""
        exchange = self._exchange(commands.idle(), take_all)
        await self.protocol.submit(exchange)
        if await self.protocol.go_ahead(exchange) is None:
            completion = await self.protocol.settle(exchange)
            if completion.status != "OK":
                raise ServerRefused(origin=completion.origin)
        if not exchange.is_done:  # some servers end IDLE at once
            self.protocol.deadlines.renew(exchange, seconds)
        return exchange

    async def end_idle(self, exchange: Exchange) -> None:
        """Send DONE unless the server has ended IDLE. Raises Unreachable; TimedOut without a response."""
        if not exchange.is_done:
            self.protocol.send(b"DONE")
            self.protocol.deadlines.renew(exchange, IDLE_END_SECONDS)
        await self.protocol.settle(exchange)

    # ---- searching

    async def search(self, name: str, key: SearchKey) -> SequenceSet:
        """UIDs of current messages that match a key, by ESEARCH (which returns a set), else by SEARCH."""
        returning = ["ALL"] if "ESEARCH" in self.protocol.offered or self.has("IMAP4REV2") else None
        command = commands.search(key, returning=returning, is_utf8=self.is_utf8)
        responses = await self.parsed_numbers((await self.in_mailbox(name, command, is_anew=True))[0])
        return await uids_found(responses)
