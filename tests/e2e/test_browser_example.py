"""examples/browser in Chromium: a mail app whose pages come from another origin than the gateway."""

from __future__ import annotations

import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, WebSocket, expect, sync_playwright

from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.postgate import Postgate
from tests.servers.process import ServerProcess, find_program, free_port

EXAMPLE = Path(__file__).parents[2] / "examples/browser"
STEP_MS = 30_000
CSV = b"day,amount\r\n1,10.50\r\n"


class App:
    """The app in a page of its own, which is loaded once and must not log an error that a test does not expect."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.frames: list[dict[str, Any]] = []
        self.sockets: list[WebSocket] = []
        page.set_default_timeout(STEP_MS)
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(f"{request.method} {request.url}"))
        page.on("websocket", self._watch)
        page.goto(url)
        self.is_live()

    def _watch(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        socket.on("framesent", lambda payload: self.frames.append(json.loads(payload)))

    def is_live(self) -> None:
        expect(self.page.get_by_role("status")).to_have_text("live", timeout=STEP_MS)

    def row(self, subject: str) -> Any:
        return self.page.locator("#list li", has_text=subject)

    def shows_once(self, subject: str) -> None:
        expect(self.row(subject)).to_have_count(1, timeout=STEP_MS)

    def open(self, subject: str) -> None:
        self.row(subject).click()
        expect(self.page.get_by_role("heading")).to_have_text(subject, timeout=STEP_MS)

    def show_mailbox(self, name: str) -> None:
        self.page.get_by_role("navigation").get_by_role("button", name=name).click()

    def sent(self, type_: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["type"] == type_]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's browser; Playwright's own are not downloaded."""
    program = find_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    with chromium.new_context(locale="en-GB", accept_downloads=True) as context:
        yield context


@contextmanager
def serving(gateway: Postgate, tmp_path: Path, *options: str) -> Iterator[str]:
    """The back end of the example, serve.py; its URL."""
    port, log = free_port(), tmp_path / "serve.log"
    arguments = [
        sys.executable,
        str(EXAMPLE / "serve.py"),
        "--port",
        str(port),
        "--demo",
        str(gateway.demo_file),
        *options,
    ]
    process = ServerProcess(arguments, is_ready=lambda: log.exists() and b"shows the mail" in log.read_bytes(), log=log)
    process.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.kill()


@pytest.fixture
def app(shared_postgate: Postgate, context: BrowserContext, tmp_path: Path) -> Iterator[App]:
    with serving(shared_postgate, tmp_path) as url:
        app = App(context.new_page(), url)
        yield app
        assert app.errors == []


def picture(width: int = 3) -> bytes:
    """A red PNG of one line."""
    rows = zlib.compress(b"\0" + b"\xff\0\0" * width)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def mail(subject: str, html: str | None = None, **attachments: bytes) -> bytes:
    """A message whose HTML has the inline picture `cid:logo`."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Carla <carla@example.com>", "alice@demo.test", subject
    message.set_content("Hello.\n")
    if html is not None:
        message.add_alternative(html, subtype="html")
        alternative = message.get_payload(1)
        assert isinstance(alternative, EmailMessage)
        alternative.add_related(picture(), "image", "png", cid="<logo>")
    for name, content in attachments.items():
        message.add_attachment(content, maintype="text", subtype="csv", filename=f"{name}.csv")
    return message.as_bytes(policy=SMTP)


def test_a_page_of_another_origin_lists_the_inbox_and_counts_unread_mail(app: App, shared_postgate: Postgate) -> None:
    with shared_postgate.client() as client:
        path = f"{shared_postgate.account_path()}/messages"
        inbox = client.get(path, params={"mailbox_id": "inbox", "limit": 50, "fields": "subject"}).json()["items"]
        unread = client.get(path, params={"mailbox_id": "inbox", "unread": True, "count": "exact"}).json()["total"]

    assert app.page.locator("#list li span").all_inner_texts() == [message["subject"] for message in inbox]
    assert app.page.get_by_role("navigation").get_by_role("button", name="INBOX").inner_text().split() == [
        "INBOX",
        str(unread),
    ]
    app.page.get_by_role("button", name="Older messages").click()
    expect(app.page.locator("#list li")).not_to_have_count(50)


def test_it_shows_inline_pictures_and_runs_nothing_that_a_sender_writes(app: App, shared_postgate: Postgate) -> None:
    html = "<p onclick='top.x=1'>See <img src='cid:logo'></p><script>top.x=1</script><img src=x onerror='top.x=1'>"
    subject = "Logo <img src=x onerror='window.x=1'>"
    shared_postgate.deliver(mail(subject, html))
    app.shows_once(subject)

    app.open(subject)

    source = app.page.locator("iframe").get_attribute("srcdoc")
    assert source is not None
    assert not re.search("onclick|onerror|<script", source)
    letter = app.page.frame_locator("iframe")
    expect(letter.locator("img").first).to_have_js_property("naturalWidth", 3)
    assert app.page.evaluate("window.x") is None
    # Playwright itself runs scripts in the frame, which has a sandbox
    app.errors = [text for text in app.errors if "script execution in 'about:srcdoc'" not in text]


def test_it_loads_inline_pictures_by_signed_links_with_one_call(app: App, shared_postgate: Postgate) -> None:
    shared_postgate.deliver(mail("By links", "<p>See <img src='cid:logo'></p>"))
    app.shows_once("By links")
    before = len(app.requests)

    app.open("By links")

    image = app.page.frame_locator("iframe").locator("img")
    expect(image).to_have_js_property("naturalWidth", 3)
    assert f"{shared_postgate.base_url}/v1/links/" in str(image.get_attribute("src"))
    reads = [request for request in app.requests[before:] if request.startswith("GET ") and "/v1/me/" in request]
    assert len(reads) == 1


def test_remote_images_are_fetched_by_the_gateway_and_only_when_asked_for(app: App, shared_postgate: Postgate) -> None:
    with image_server() as (url, agents):
        shared_postgate.deliver(mail("Newsletter", f"<p>News <img id='far' src='{url}'></p>"))
        app.shows_once("Newsletter")
        app.open("Newsletter")
        expect(app.page.frame_locator("iframe").locator("p")).to_have_text("News")
        assert agents == []

        app.page.get_by_role("button", name="Show images").click()

        expect(app.page.frame_locator("iframe").locator("img")).to_have_js_property("naturalWidth", 3)
        expect(app.page.get_by_role("button", name="Show images")).to_have_count(0)
    assert len(agents) == 1
    assert "Chrom" not in agents[0]
    assert [request for request in app.requests if url in request] == []


@contextmanager
def image_server() -> Iterator[tuple[str, list[str]]]:
    """The URL of a picture elsewhere, and the `User-Agent` of each request for it."""
    agents: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            agents.append(self.headers.get("User-Agent", ""))
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(picture())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/far.png", agents
        server.shutdown()


def test_badges_follow_the_counts_of_the_stream_without_a_call(app: App, shared_postgate: Postgate) -> None:
    inbox = app.page.get_by_role("navigation").get_by_role("button", name="INBOX")
    unread = int(inbox.inner_text().split()[1])
    shared_postgate.deliver(mail("Counted"))
    expect(inbox).to_have_text(f"INBOX{unread + 1}")

    app.open("Counted")

    expect(inbox).to_have_text(f"INBOX{unread}")
    assert len([request for request in app.requests if request.endswith("/mailboxes")]) == 1


def test_it_downloads_an_attachment_with_its_name_and_bytes(app: App, shared_postgate: Postgate) -> None:
    shared_postgate.deliver(mail("Table of expenses", figures=CSV))
    app.shows_once("Table of expenses")
    app.open("Table of expenses")

    with app.page.expect_download() as download:
        app.page.get_by_role("button", name="figures.csv").click()

    assert download.value.suggested_filename == "figures.csv"
    assert download.value.path().read_bytes() == CSV
    assert "/v1/links/" in download.value.url
    assert [request for request in app.requests if "/attachments/" in request] == []


def test_it_follows_what_mail_programs_do(app: App, shared_postgate: Postgate) -> None:
    shared_postgate.deliver(mail("Followed"))
    app.shows_once("Followed")
    row = app.row("Followed").get_by_role("button")
    expect(row).to_have_class(re.compile("unread"))

    imap = shared_postgate.imap()
    imap.select("INBOX")
    newest = imap.search(None, "ALL")[1][0].split()[-1].decode()
    imap.store(newest, "+FLAGS", r"(\Seen \Flagged)")
    expect(row).to_have_class("flagged")
    imap.store(newest, "+FLAGS", r"(\Deleted)")
    imap.expunge()
    imap.logout()

    expect(app.row("Followed")).to_have_count(0)


def test_it_flags_moves_and_searches(app: App, shared_postgate: Postgate) -> None:
    shared_postgate.deliver(mail("Invoice of Zanzibar"))
    app.shows_once("Invoice of Zanzibar")
    app.open("Invoice of Zanzibar")
    expect(app.row("Invoice of Zanzibar").get_by_role("button")).not_to_have_class(re.compile("unread"))

    app.page.keyboard.press("s")
    expect(app.row("Invoice of Zanzibar").get_by_role("button")).to_have_class(re.compile("flagged"))
    app.page.get_by_title("Move").select_option("Archive")
    expect(app.row("Invoice of Zanzibar")).to_have_count(0)
    search(app, "subject:zanzibar is:flagged -is:unread")
    app.shows_once("Invoice of Zanzibar")
    search(app, "subject:zanzibar is:unread")
    expect(app.page.get_by_text("No mail matches")).to_be_visible()

    app.show_mailbox("Archive")
    app.shows_once("Invoice of Zanzibar")
    with shared_postgate.client() as client:
        found = client.get(f"{shared_postgate.account_path()}/messages", params={"q": "subject:zanzibar in:archive"})
    assert sorted(found.json()["items"][0]["keywords"]) == ["$flagged", "$seen"]


def search(app: App, text: str) -> None:
    app.page.keyboard.press("/")
    app.page.get_by_label("Search").fill(text)
    app.page.keyboard.press("Enter")


def test_it_sends_mail_that_arrives_and_shows_in_sent(app: App, shared_postgate: Postgate) -> None:
    app.page.keyboard.press("c")
    app.page.get_by_label("To").fill("bob@demo.test")
    app.page.get_by_label("Subject").fill("From a browser")
    app.page.get_by_label("Text").fill("It works.")
    app.page.get_by_role("button", name="Send").click()

    expect(app.page.get_by_role("alert")).to_have_text("Sent.")
    app.show_mailbox("Sent")
    app.shows_once("From a browser")
    with shared_postgate.client() as client:
        path = f"{shared_postgate.account_path('bob')}/messages"
        arrived = client.get(path, params={"q": 'subject:"From a browser"', "view": "full"}).json()["items"]
    assert [message["text"].strip() for message in arrived] == ["It works."]


def test_a_search_that_the_gateway_refuses_says_why(app: App) -> None:
    search(app, "before:yesteryear")
    expect(app.page.locator("#note")).to_contain_text("q")
    assert [text for text in app.errors if "422" in text] == app.errors != []
    app.errors.clear()


def test_a_token_that_ends_is_renewed_on_the_open_socket(
    shared_postgate: Postgate, context: BrowserContext, tmp_path: Path
) -> None:
    with serving(shared_postgate, tmp_path, "--token-seconds", "6") as url:
        app = App(context.new_page(), url)
        app.page.wait_for_timeout(7_000)
        shared_postgate.deliver(mail("Past the first token"))

        app.shows_once("Past the first token")

    assert len({frame["token"] for frame in app.sent("auth")}) > 1
    assert len(app.sockets) == 1
    assert app.errors == []


CALL_TWICE = """async () => {
    const { Postgate } = await import('/postgate.js');
    const { gateway } = await (await fetch('/config')).json();
    const client = new Postgate(gateway, async () => (await (await fetch('/token', { method: 'POST' })).json()).token);
    await client.get('/mailboxes');
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const answers = await Promise.all([client.get('/mailboxes'), client.get('/messages')]);
    return answers.map((answer) => answer.items.length > 0);
}"""


def test_calls_with_a_token_that_ended_are_repeated_with_one_new_token(
    shared_postgate: Postgate, context: BrowserContext, tmp_path: Path
) -> None:
    page = context.new_page()
    answers: list[tuple[str, int]] = []
    page.on("response", lambda response: answers.append((response.request.method, response.status)))
    with serving(shared_postgate, tmp_path, "--token-seconds", "1") as url:
        page.goto(f"{url}style.css")  # a page of the app's origin without the app
        assert page.evaluate(CALL_TWICE) == [True, True]

    assert answers.count(("GET", 401)) == 2
    assert answers.count(("POST", 201)) == 2, "the two calls share a token"


def test_mail_that_comes_while_the_socket_is_lost_shows_once_after_it_is_back(
    shared_postgate: Postgate, context: BrowserContext, tmp_path: Path
) -> None:
    proxy = CuttingProxy(int(shared_postgate.base_url.rpartition(":")[2]), seed=1)
    proxy.start()
    with serving(shared_postgate, tmp_path, "--gateway", f"http://127.0.0.1:{proxy.port}") as url:
        app = App(context.new_page(), url)
        context.set_offline(True)
        proxy.cut_all()
        expect(app.page.get_by_role("status")).to_have_text("waiting")
        shared_postgate.deliver(mail("While you were away"))
        expect(app.row("While you were away")).to_have_count(0)
        expect(app.page.get_by_role("status")).not_to_have_text("live")
        before = list(app.requests)
        context.set_offline(False)
        app.is_live()

        app.shows_once("While you were away")

    proxy.close()
    lists = [request for request in app.requests[len(before) :] if "/messages?" in request]
    assert lists == [], "it came as an event"
    assert len(app.sockets) >= 2


def test_it_goes_on_after_the_gateway_was_started_again(
    shared_postgate: Postgate, context: BrowserContext, tmp_path: Path
) -> None:
    with serving(shared_postgate, tmp_path) as url:
        app = App(context.new_page(), url)
        shared_postgate.stop()
        expect(app.page.get_by_role("status")).to_have_text("waiting")
        shared_postgate.start_again()
        shared_postgate.deliver(mail("After the restart"))

        app.shows_once("After the restart")
        app.is_live()
