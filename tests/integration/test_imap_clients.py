"""Programs that people use, each doing a real job against the embedded IMAP server."""

from __future__ import annotations

import asyncio
import imaplib
import json
import os
import pty
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.mail.types import DRAFT, FLAGGED, SEEN, Flags

from tests.imap_harness import PASSWORD, USER, ImapHarness, mail, open_imap_harness
from tests.servers.process import find_program
from tests.servers.tls import TlsFiles

JOB_SECONDS = 30.0
NODE = Path(__file__).parents[1] / "node"


@pytest.fixture
async def imap(tmp_path: Path) -> AsyncIterator[ImapHarness]:
    async with open_imap_harness(tmp_path) as harness:
        yield harness


def _read_and_flag(port: int) -> tuple[list[bytes], bytes]:
    with imaplib.IMAP4("127.0.0.1", port) as client:
        client.login(USER, PASSWORD)
        _, total = client.select("INBOX")
        assert total == [b"2"]
        _, found = client.uid("SEARCH", "UNSEEN")
        _, data = client.uid("FETCH", "1:*", "(FLAGS ENVELOPE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        client.uid("STORE", "2", "+FLAGS", "(\\Deleted)")
        client.expunge()
        _, whole = client.fetch("1", "(RFC822)")
        client.append("Drafts", "(\\Draft)", imaplib.Time2Internaldate(0), mail("Drafted"))
        subjects = [item[1] for item in data if isinstance(item, tuple)]
        assert isinstance(whole[0], tuple)
        return [*found, *subjects], whole[0][1]


async def test_imaplib_reads_flags_appends_and_removes(imap: ImapHarness) -> None:
    await imap.deliver(mail("One"))
    await imap.deliver(mail("Two"))

    found, whole = await asyncio.to_thread(_read_and_flag, imap.port)

    assert found == [b"1 2", b"Subject: One\r\n\r\n", b"Subject: Two\r\n\r\n"]
    assert whole == mail("One")
    assert await imap.harness.contents(imap.account_id) == [mail("One")]
    assert await imap.harness.contents(imap.account_id, "Drafts") == [mail("Drafted")]
    assert (await imap.harness.mailbox(imap.account_id)).unread == 0


async def run(program: str, *arguments: str, folder: Path | None = None, said: bytes = b"") -> bytes:
    """What a program prints; it ends well and in time."""
    process = await asyncio.create_subprocess_exec(
        find_program(program), *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=folder
    )
    async with asyncio.timeout(JOB_SECONDS):
        printed, complaints = await process.communicate(said)
    assert process.returncode == 0, (program, printed, complaints)
    return printed


async def flags_in(imap: ImapHarness, path: str = "INBOX") -> dict[int, Flags]:
    mailbox = await imap.harness.mailbox(imap.account_id, path)
    return {
        uid: known.flags
        for uid, known in (await imap.harness.reader.mirrored.known(imap.account_id, mailbox.id)).items()
    }


async def test_curl_lists_fetches_searches_and_appends(imap: ImapHarness, tmp_path: Path) -> None:
    await imap.deliver(mail("Invoice", body="Please pay.\r\n"))
    url = f"imap://127.0.0.1:{imap.port}"
    as_user = ("-s", "-S", "-u", f"{USER}:{PASSWORD}")
    (tmp_path / "draft.eml").write_bytes(mail("By curl"))

    mailboxes = await run("curl", *as_user, url)
    whole = await run("curl", *as_user, f"{url}/INBOX;UID=1")
    found = await run("curl", *as_user, f"{url}/INBOX?TEXT%20pay")
    await run("curl", *as_user, "-T", str(tmp_path / "draft.eml"), f"{url}/Drafts")

    assert b'(\\HasNoChildren \\Sent) "/" "Sent"' in mailboxes
    assert whole == mail("Invoice", body="Please pay.\r\n")
    assert found.split() == [b"*", b"SEARCH", b"1"]
    assert await imap.harness.contents(imap.account_id, "Drafts") == [mail("By curl")]


async def test_curl_reads_mail_after_starttls(tls: TlsFiles, tmp_path: Path) -> None:
    async with open_imap_harness(tmp_path, tls.good.server_context()) as imap:
        await imap.deliver(mail("Secret"))
        arguments = ("-s", "-S", "--ssl-reqd", "--cacert", str(tls.authority), "-u", f"{USER}:{PASSWORD}")

        whole = await run("curl", *arguments, f"imap://localhost:{imap.port}/INBOX;UID=1")

        assert whole == mail("Secret")


def _mbsync_files(folder: Path, port: int) -> Path:
    for name in ("cur", "new", "tmp"):
        (folder / "mail" / "INBOX" / name).mkdir(parents=True)
    config = folder / "mbsyncrc"
    config.write_text(
        f"""
IMAPStore far
Host 127.0.0.1
Port {port}
User {USER}
Pass {PASSWORD}
SSLType None
AuthMechs PLAIN

MaildirStore near
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX Work
Sync All
Create Both
Expunge Both
SyncState {folder}/
"""
    )
    return config


async def test_mbsync_carries_messages_flags_and_removals_both_ways(imap: ImapHarness, tmp_path: Path) -> None:
    for subject in ("One", "Two", "Three"):
        await imap.deliver(mail(subject))
    folder = tmp_path / "near"
    config = _mbsync_files(folder, imap.port)
    inbox = folder / "mail" / "INBOX"

    await run("mbsync", "-c", str(config), "all")

    files = {_subject(path): path for path in inbox.glob("*/*")}
    assert set(files) == {"One", "Two", "Three"}
    _set_flags(files["One"], "S")
    _set_flags(files["Two"], "T")
    (inbox / "new" / "1.made.here").write_bytes(mail("Made here").replace(b"\r\n", b"\n"))
    await imap.harness.store.expunge(
        imap.account_id, (await imap.harness.mailbox(imap.account_id)).id, [3], only_deleted=False
    )
    await imap.harness.store.mailboxes.create(imap.account_id, "Work")
    await imap.deliver(mail("Work"), "Work", frozenset({SEEN, FLAGGED}))

    await run("mbsync", "-c", str(config), "all")

    assert {_subject(path) for path in inbox.glob("*/*")} == {"One", "Made here"}
    assert [path.name.rpartition(",")[2] for path in (folder / "mail" / "Work" / "cur").iterdir()] == ["FS"]
    assert (await flags_in(imap))[1] == {SEEN}
    assert len(await imap.harness.contents(imap.account_id)) == 2


def _subject(path: Path) -> str:
    return next(line[9:] for line in path.read_text().splitlines() if line.startswith("Subject: "))


def _set_flags(path: Path, flags: str) -> None:
    name = path.name.partition(":")[0]
    path.rename(path.parent.parent / "cur" / f"{name}:2,{flags}")


def _neomutt_files(folder: Path, port: int) -> Path:
    config = folder / "neomuttrc"
    config.write_text(
        f"""
set imap_user="{USER}" imap_pass="{PASSWORD}" folder="imap://127.0.0.1:{port}/" spoolfile="+INBOX"
set record="+Sent" copy=yes from="{USER}" sendmail="/bin/true" ssl_starttls=no ssl_force_tls=no
set confirmappend=no delete=yes quit=yes header_cache="" mail_check=1 wait_key=no
"""
    )
    return config


async def test_neomutt_moves_and_deletes_on_its_screen(imap: ImapHarness, tmp_path: Path) -> None:
    for subject in ("Keep", "Archive me", "Delete me"):
        await imap.deliver(mail(subject))
    config = _neomutt_files(tmp_path, imap.port)
    keys = "<limit>all<enter><tag-pattern>~s Archive<enter><tag-prefix><save-message>=Archive<enter>"
    keys += "<delete-pattern>~s Delete<enter><sync-mailbox><quit>"
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "LINES": "40", "COLUMNS": "120"}
    process = await asyncio.create_subprocess_exec(
        *(find_program("neomutt"), "-n", "-F", str(config), "-e", f'push "{keys}"'),
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
    )  # fmt: skip
    os.close(theirs)
    reading = asyncio.create_task(asyncio.to_thread(_drain, ours))

    async with asyncio.timeout(JOB_SECONDS):
        await process.wait()
        screen = await reading

    subjects = [_subject_of(content) for content in await imap.harness.contents(imap.account_id)]
    assert subjects == ["Keep"], screen[-2000:]
    assert [_subject_of(one) for one in await imap.harness.contents(imap.account_id, "Archive")] == ["Archive me"]


def _drain(descriptor: int) -> bytes:
    """Read a terminal until its program ends, which Linux tells as an error."""
    seen = b""
    try:
        while piece := os.read(descriptor, 65_536):
            seen += piece
    except OSError:
        pass
    os.close(descriptor)
    return seen


def _subject_of(content: bytes) -> str:
    return content.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(JOB_SECONDS):
        return await process.stdout.readline()


async def test_imapflow_does_a_days_work_and_hears_of_new_mail(imap: ImapHarness, tmp_path: Path) -> None:
    await imap.deliver(mail("One"))
    await imap.deliver(mail("Two"))
    (tmp_path / "draft.eml").write_bytes(mail("By imapflow"))
    process = await asyncio.create_subprocess_exec(
        *(find_program("node"), "imapflow_job.mjs", str(imap.port), USER, PASSWORD, str(tmp_path / "draft.eml")),
        cwd=NODE,
        stdout=PIPE,
    )
    assert await _line(process) == b"idle\n"

    await asyncio.sleep(0.2)  # IDLE itself is on its way
    await imap.deliver(mail("Three"))

    found = json.loads(await _line(process))
    assert await process.wait() == 0
    assert found["subjects"] == ["One", "Two"]
    assert found["messages"] == 2
    assert found["specialUses"]["Trash"] == "\\Trash"
    assert found["firstBytes"] == len(mail("One"))
    assert found["searched"] == [2]
    assert found["movedTo"] == [1]
    assert found["left"] == 1
    assert found["appendedUid"] == 1
    assert found["countAfterDelivery"] == 2
    assert found["paths"] == ["Archived projects", "Archived projects/2024"]
    assert (await flags_in(imap, "Archive"))[1] == {FLAGGED, "$Done"}
    assert (await flags_in(imap, "Drafts"))[1] == {DRAFT}
