"""The first call of an account that nobody followed: it shows what is on the mail server now."""

from __future__ import annotations

from pathlib import Path

from app.cluster.followers import Followers
from app.services.accounts.initial_listing import InitialListing
from app.services.reading.freshness import Freshness

from tests.servers.dovecot import Dovecot
from tests.servers.tls import TlsFiles
from tests.sync_harness import GivenBackends, OtherClient, mail, open_followed


async def test_the_first_list_of_mailboxes_shows_what_changed_while_nobody_followed(
    dovecot: Dovecot, tls: TlsFiles, tmp_path: Path
) -> None:
    user = dovecot.add_user()
    dovecot.deliver(mail("seen before"), user.name)
    async with open_followed(tmp_path, dovecot, tls, user) as followed:
        async with followed.following():
            await followed.until_live()
            before = await followed.ids()
        dovecot.deliver(mail("new in INBOX"), user.name)
        with OtherClient(dovecot, user) as other:
            other.do("create", "Projects")
            other.append("Projects", mail("in a new mailbox"))
            other.append("Archive", mail("in Archive"))
            other.select()
            other.uid("STORE", "1", "+FLAGS", "(\\Seen)")
        harness = followed.harness
        backends = GivenBackends({followed.account_id: followed.backend})
        beginning = InitialListing(backends, harness.index, harness.reader, harness.bus)
        freshness = Freshness(backends, harness.index, harness.reader, Followers(harness.bus), beginning)

        await freshness.settle_mailboxes(followed.account_id)

        counts = {
            one.path: (one.total, one.unread) for one in await harness.reader.mailboxes.mailboxes(followed.account_id)
        }
        assert (counts["INBOX"], counts["Projects"], counts["Archive"]) == ((2, 1), (1, 1), (1, 1))
        assert (await followed.ids())[:1] == before
        async with followed.following():  # the worker finds nothing to tell again
            await followed.until_live()
            assert (await followed.told()).count("message.created") == 3
