"""Services as parameters of routes: `messages: MessagesService` is the service itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from fastapi.requests import HTTPConnection

from app.api.deps import services_of
from app.api.message_lists import MessageLists
from app.api.standing import Standing, standing_of
from app.api.stream.server_sent import ServerSentEvents
from app.mail.protocol_log import ProtocolLogs
from app.services.access.limits import RateLimits
from app.services.access.links import Links
from app.services.access.tickets import Tickets
from app.services.access.tokens import Tokens
from app.services.access.watch import AccessWatch
from app.services.accounts.accounts import Accounts
from app.services.accounts.autoconfig import Autoconfig
from app.services.accounts.polling import Polling
from app.services.accounts.quotas import Quotas
from app.services.changing.bulk import Bulk
from app.services.changing.imports import Imports
from app.services.changing.keywords import Keywords
from app.services.changing.mailboxes import Mailboxes
from app.services.changing.messages import Messages
from app.services.changing.threads import Threads
from app.services.following.changes import ChangesSince
from app.services.following.consumers import Consumers
from app.services.following.counts import Counts
from app.services.following.events import Events
from app.services.following.states import States
from app.services.health import Health
from app.services.oauth.apps import OAuthApps
from app.services.reading.content import Content
from app.services.reading.listing import Listing
from app.services.reading.remote_images import RemoteImages
from app.services.reading.searching import Searching
from app.services.reading.views import Views
from app.services.sending.composing import Composer
from app.services.sending.submissions import Submissions
from app.services.sign_in.account_setup import AccountSetup
from app.services.sign_in.connecting import Connecting
from app.services.sign_in.passwords import Passwords
from app.services.sign_in.sessions import Sessions
from app.settings import Settings


def _service(name: str) -> Any:
    """Return a dependency that returns the named service."""

    async def find(connection: HTTPConnection) -> Any:
        return getattr(services_of(connection), name)

    return Depends(find)


async def _event_stream(connection: HTTPConnection) -> ServerSentEvents:
    services = services_of(connection)
    return ServerSentEvents(services.events, services.states, services.access, services.counts)


async def _message_lists(
    connection: HTTPConnection, standing: Annotated[Standing, Depends(standing_of)]
) -> MessageLists:
    services = services_of(connection)
    return MessageLists(services.listing, services.views, standing)


AccountStanding = Annotated[Standing, Depends(standing_of)]
"""For routes of one account, after the parameter that checks the account."""
AccessService = Annotated[AccessWatch, _service("access")]
AccountsService = Annotated[Accounts, _service("accounts")]
AutoconfigService = Annotated[Autoconfig, _service("autoconfig")]
BulkService = Annotated[Bulk, _service("bulk")]
ChangesService = Annotated[ChangesSince, _service("changes")]
ComposerService = Annotated[Composer, _service("composer")]
ConnectingService = Annotated[Connecting, _service("connecting")]
ConsumersService = Annotated[Consumers, _service("consumers")]
ContentService = Annotated[Content, _service("content")]
CountsService = Annotated[Counts, _service("counts")]
EnrolmentService = Annotated[AccountSetup, _service("enrolment")]
EventsService = Annotated[Events, _service("events")]
EventStream = Annotated[ServerSentEvents, Depends(_event_stream)]
GatewaySettings = Annotated[Settings, _service("settings")]
HealthService = Annotated[Health, _service("health")]
ImportsService = Annotated[Imports, _service("imports")]
KeywordsService = Annotated[Keywords, _service("keywords")]
LinksService = Annotated[Links, _service("links")]
ListingService = Annotated[Listing, _service("listing")]
MailboxesService = Annotated[Mailboxes, _service("mailboxes")]
MessageListsService = Annotated[MessageLists, Depends(_message_lists)]
MessagesService = Annotated[Messages, _service("messages")]
OAuthAppsService = Annotated[OAuthApps, _service("oauth_apps")]
PasswordsService = Annotated[Passwords, _service("passwords")]
PollingService = Annotated[Polling, _service("polling")]
QuotasService = Annotated[Quotas, _service("quotas")]
RateLimitsService = Annotated[RateLimits, _service("limits")]
RemoteImagesService = Annotated[RemoteImages, _service("remote_images")]
SearchingService = Annotated[Searching, _service("searching")]
SessionsService = Annotated[Sessions, _service("sessions")]
StatesService = Annotated[States, _service("states")]
SubmissionsService = Annotated[Submissions, _service("submissions")]
ThreadsService = Annotated[Threads, _service("threads")]
TicketsService = Annotated[Tickets, _service("tickets")]
TokensService = Annotated[Tokens, _service("tokens")]
TracesService = Annotated[ProtocolLogs, _service("traces")]
ViewsService = Annotated[Views, _service("views")]
