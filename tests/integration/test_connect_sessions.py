"""The hosted page that adds accounts: from the link to the end, and everything that must not work on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from app.errors import AddressNotAllowed, LoginRefused
from app.mail.types import ServerLogin

from tests.gateway import Gateway, client_of, files_holding, open_gateway
from tests.oauth import DONE, Browser, app_order, left_for, outcome_of
from tests.servers.authorization_server import AuthorizationServer

USER = "ann@mail.test"
ELSEWHERE = "https://other.test/done"
SERVERS = {"imap": {"host": "93.184.216.34", "port": 993}, "smtp": {"host": "93.184.216.34", "port": 465}}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, net_allow="127.0.0.0/8", connect_redirect_urls="https://other.test/") as gateway:
        yield gateway


@pytest.fixture
async def app_id(gateway: Gateway, authorization_server: AuthorizationServer) -> str:
    authorization_server.email = USER
    made = await gateway.admin.post("/v1/oauth-apps", json=app_order(authorization_server, **SERVERS))
    return str(made.json()["id"])


def browser(gateway: Gateway) -> Browser:
    return Browser(client_of(gateway.app, {}))


async def opened(gateway: Gateway, **order: Any) -> str:
    """The link of a new session."""
    answer = await gateway.admin.post("/v1/connect/sessions", json={"redirect_url": DONE, **order})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["url"])


async def test_a_person_adds_an_account_by_consent(gateway: Gateway, app_id: str) -> None:
    url = await opened(gateway, state="s 1&2", oauth_app_id=app_id)

    outcome = outcome_of(await browser(gateway).connect(url, app_id))

    assert outcome["state"] == "s 1&2"
    account = (await gateway.admin.get(f"/v1/accounts/{outcome['account_id']}")).json()
    assert (account["email"], account["status"]) == (USER, "ready")
    imap, smtp = gateway.backends.verified[0]
    assert imap is not None
    assert smtp is not None
    assert (imap.username, imap.password, smtp.tokens is not None) == (USER, "", True)


async def test_the_page_needs_no_script_and_lets_nothing_in(gateway: Gateway, app_id: str) -> None:
    page = await browser(gateway).open(await opened(gateway, email='"><script>alert(1)</script>'))

    assert page.status_code == 200
    assert "<script" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["Cache-Control"] == "no-store"
    cookie = page.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    assert app_id in page.text


async def test_a_link_works_in_the_browser_that_opened_it_first_and_in_no_other(gateway: Gateway, app_id: str) -> None:
    url, mine, other = await opened(gateway), browser(gateway), browser(gateway)

    assert (await mine.open(url)).status_code == 200
    assert (await mine.open(url)).status_code == 200
    assert (await other.open(url)).status_code == 404
    assert outcome_of(await mine.connect(url, app_id))["account_id"]
    assert (await mine.open(url)).status_code == 404


async def test_a_state_is_taken_once_and_from_its_own_browser_alone(
    gateway: Gateway, app_id: str, authorization_server: AuthorizationServer
) -> None:
    url, mine, other = await opened(gateway), browser(gateway), browser(gateway)
    await mine.open(url)
    back = await mine.consent(await mine.choose_app(url, app_id))
    await other.open(await opened(gateway))

    assert (await other.open(back)).status_code == 404
    assert outcome_of(await mine.open(back))["account_id"]
    assert (await mine.open(back)).status_code == 404
    assert authorization_server.asked["authorization_code"] == 1


@pytest.mark.parametrize("change", [{"state": "forged"}, {"state": ""}])
async def test_a_forged_state_leads_nowhere(
    gateway: Gateway, app_id: str, authorization_server: AuthorizationServer, change: dict[str, str]
) -> None:
    url, mine = await opened(gateway), browser(gateway)
    await mine.open(url)
    back = await mine.consent(await mine.choose_app(url, app_id))
    query = dict(parse_qsl(urlsplit(back).query)) | change

    answer = await mine.open(str(httpx2.URL(back).copy_with(params=query)))

    assert answer.status_code == 404
    assert authorization_server.asked["authorization_code"] == 0


async def test_a_code_is_used_once(gateway: Gateway, app_id: str, authorization_server: AuthorizationServer) -> None:
    url, mine = await opened(gateway), browser(gateway)
    await mine.open(url)
    first = dict(parse_qsl(urlsplit(await mine.consent(await mine.choose_app(url, app_id))).query))
    back = await mine.consent(await mine.choose_app(url, app_id))
    second = dict(parse_qsl(urlsplit(back).query))
    outcome_of(await mine.open(back))

    again = await opened(gateway)
    await mine.open(again)
    third = await mine.consent(await mine.choose_app(again, app_id))
    stolen = dict(parse_qsl(urlsplit(third).query)) | {"code": second["code"]}
    answer = await mine.open(str(httpx2.URL(third).copy_with(params=stolen)))

    assert outcome_of(answer) == {"error": "mail_login_refused"}
    assert first["state"] != second["state"]


async def test_a_code_of_another_session_fails_for_want_of_its_verifier(gateway: Gateway, app_id: str) -> None:
    mine, thief = browser(gateway), browser(gateway)
    url, own = await opened(gateway), await opened(gateway)
    await mine.open(url)
    await thief.open(own)
    code = dict(parse_qsl(urlsplit(await mine.consent(await mine.choose_app(url, app_id))).query))["code"]
    back = await thief.consent(await thief.choose_app(own, app_id))
    query = dict(parse_qsl(urlsplit(back).query)) | {"code": code}

    answer = await thief.open(str(httpx2.URL(back).copy_with(params=query)))

    assert outcome_of(answer) == {"error": "mail_login_refused"}


async def test_an_answer_of_another_authorization_server_is_refused(
    gateway: Gateway, app_id: str, authorization_server: AuthorizationServer
) -> None:
    authorization_server.issuer_shown = "https://evil.test"
    refused = await browser(gateway).connect(await opened(gateway), app_id)
    authorization_server.issuer_shown = authorization_server.url
    taken = await browser(gateway).connect(await opened(gateway), app_id)

    assert refused.status_code == 404
    assert outcome_of(taken)["account_id"]


async def test_whoever_declines_is_sent_back_with_an_error(
    gateway: Gateway, app_id: str, authorization_server: AuthorizationServer
) -> None:
    authorization_server.denies = True

    answer = await browser(gateway).connect(await opened(gateway, state="x"), app_id)

    assert outcome_of(answer) == {"error": "access_denied", "state": "x"}


async def test_a_consent_that_the_mail_server_refuses_leaves_nothing_behind(gateway: Gateway, app_id: str) -> None:
    gateway.backends.refusal = LoginRefused()

    answer = await browser(gateway).connect(await opened(gateway), app_id)

    assert outcome_of(answer) == {"error": "mail_login_refused"}
    assert (await gateway.admin.get("/v1/accounts")).json()["items"] == []
    assert (await gateway.admin.delete(f"/v1/oauth-apps/{app_id}")).status_code == 204


async def test_a_consent_given_anew_replaces_the_old_one(gateway: Gateway, app_id: str) -> None:
    added = outcome_of(await browser(gateway).connect(await opened(gateway), app_id))["account_id"]
    before = (await gateway.services.accounts.servers(added))[1].grant_id  # type: ignore[arg-type]

    answer = await browser(gateway).connect(await opened(gateway, account_id=added), app_id)

    assert outcome_of(answer)["account_id"] == added
    after = (await gateway.services.accounts.servers(added))[1].grant_id  # type: ignore[arg-type]
    assert after not in (before, None)
    with pytest.raises(LoginRefused, match="withdrawn"):
        await gateway.services.grants.token(str(before))
    assert (await gateway.admin.delete(f"/v1/oauth-apps/{app_id}")).status_code == 409


async def test_a_person_adds_an_account_by_password(gateway: Gateway) -> None:
    url, mine = await opened(gateway, redirect_url=ELSEWHERE), client_of(gateway.app, {})
    await mine.get(url)
    form = {"email": "me@nowhere.test", "password": "canary-password", "way": "password"}
    asked = await mine.post(url, data=form)
    servers = {
        "imap_host": "93.184.216.34", "imap_port": "993", "imap_security": "tls",
        "smtp_host": "93.184.216.34", "smtp_port": "587", "smtp_security": "starttls",
    }  # fmt: skip
    done = await mine.post(url, data=form | servers)

    assert asked.status_code == 422
    assert "imap_host" in asked.text
    assert "canary" not in asked.text
    assert left_for(done.text).startswith(f"{ELSEWHERE}?account_id=acc_")
    imap, smtp = gateway.backends.verified[0]
    assert imap is not None
    assert smtp is not None
    assert (imap.username, imap.password, smtp.port) == ("me@nowhere.test", "canary-password", 587)
    assert files_holding(gateway.folder, b"canary") == []


IMAP_FORM = {
    "email": "me@nowhere.test", "password": "canary-password",
    "imap_host": "93.184.216.34", "imap_port": "993", "imap_security": "tls",
}  # fmt: skip


async def test_a_form_that_is_sent_again_leads_to_the_same_end_and_another_one_to_none(gateway: Gateway) -> None:
    url, mine = await opened(gateway, redirect_url=ELSEWHERE), client_of(gateway.app, {})
    await mine.get(url)

    first = await mine.post(url, data=IMAP_FORM)
    again = await mine.post(url, data=IMAP_FORM)
    other = await mine.post(url, data=IMAP_FORM | {"email": "you@nowhere.test"})
    stranger = await client_of(gateway.app, {}).post(url, data=IMAP_FORM)

    assert left_for(first.text) == left_for(again.text)
    assert left_for(first.text).startswith(f"{ELSEWHERE}?account_id=acc_")
    assert (other.status_code, stranger.status_code, (await mine.get(url)).status_code) == (404, 404, 404)
    assert len((await gateway.admin.get("/v1/accounts")).json()["items"]) == 1


async def test_a_form_whose_request_was_cut_adds_its_account_once(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, mine = await opened(gateway, redirect_url=ELSEWHERE), client_of(gateway.app, {})
    await mine.get(url)
    is_verifying, may_end = asyncio.Event(), asyncio.Event()

    async def verify(logins: Mapping[str, ServerLogin]) -> None:
        is_verifying.set()
        await may_end.wait()

    monkeypatch.setattr(gateway.backends, "verify", verify)
    cut = asyncio.create_task(mine.post(url, data=IMAP_FORM))
    await is_verifying.wait()
    cut.cancel()
    meanwhile = await mine.post(url, data=IMAP_FORM)
    may_end.set()
    await asyncio.gather(cut, *gateway.services.idempotency._tasks, return_exceptions=True)
    done = await mine.post(url, data=IMAP_FORM)

    assert cut.cancelled()
    assert (meanwhile.status_code, "already being checked" in meanwhile.text) == (422, True)
    accounts = (await gateway.admin.get("/v1/accounts")).json()["items"]
    assert [left_for(done.text)] == [f"{ELSEWHERE}?account_id={one['id']}" for one in accounts]


async def test_a_return_from_a_consent_that_is_repeated_leads_to_the_same_end(
    gateway: Gateway, app_id: str, authorization_server: AuthorizationServer
) -> None:
    url, client = await opened(gateway), client_of(gateway.app, {})
    mine = Browser(client)
    await mine.open(url)
    back = await mine.consent(await mine.choose_app(url, app_id))
    cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items())}

    first = outcome_of(await mine.open(back))
    again = outcome_of(await client_of(gateway.app, cookies).get(back))
    other_code = await client_of(gateway.app, cookies).get(f"{back}x")

    assert first == again
    assert first["account_id"]
    assert other_code.status_code == 404
    assert authorization_server.asked["authorization_code"] == 1


# ---- accounts over POP3

POP3_FORM = {
    "email": "me@nowhere.test", "password": "canary-password", "way": "password",
    "pop3_host": "93.184.216.34", "pop3_port": "995", "pop3_security": "tls",
    "smtp_host": "93.184.216.34", "smtp_port": "465", "smtp_security": "tls",
}  # fmt: skip


async def test_a_session_for_pop3_adds_such_an_account_by_password(gateway: Gateway) -> None:
    url, mine = await opened(gateway, redirect_url=ELSEWHERE, kind="pop3"), client_of(gateway.app, {})
    await mine.get(url)

    asked = await mine.post(url, data={"email": "me@nowhere.test", "password": "x"})
    done = await mine.post(url, data=POP3_FORM)

    assert 'name="pop3_port" value="995"' in asked.text
    assert "imap" not in asked.text.lower()
    id_ = dict(parse_qsl(urlsplit(left_for(done.text)).query))["account_id"]
    account = (await gateway.admin.get(f"/v1/accounts/{id_}")).json()
    assert (account["kind"], account["pop3"]["host"], account["imap"]) == ("pop3", "93.184.216.34", None)


async def test_a_session_for_pop3_adds_such_an_account_by_consent(
    gateway: Gateway, authorization_server: AuthorizationServer
) -> None:
    authorization_server.email = USER
    servers = {**SERVERS, "pop3": {"host": "93.184.216.34", "port": 995}}
    app_id = (await gateway.admin.post("/v1/oauth-apps", json=app_order(authorization_server, **servers))).json()["id"]

    outcome = outcome_of(await browser(gateway).connect(await opened(gateway, kind="pop3"), app_id))

    account = (await gateway.admin.get(f"/v1/accounts/{outcome['account_id']}")).json()
    assert (account["kind"], account["pop3"]["auth"], account["pop3"]["port"]) == ("pop3", "oauth", 995)


async def test_an_app_without_a_pop3_server_is_not_offered_for_pop3(gateway: Gateway, app_id: str) -> None:
    page = await browser(gateway).open(await opened(gateway, kind="pop3"))
    refused = await gateway.admin.post(
        "/v1/connect/sessions", json={"redirect_url": DONE, "kind": "pop3", "oauth_app_id": app_id}
    )

    assert app_id not in page.text
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/kind")


async def test_an_account_over_pop3_is_connected_anew_as_what_it_is(gateway: Gateway) -> None:
    url, mine = await opened(gateway, redirect_url=ELSEWHERE, kind="pop3"), client_of(gateway.app, {})
    await mine.get(url)
    done = await mine.post(url, data=POP3_FORM)
    id_ = dict(parse_qsl(urlsplit(left_for(done.text)).query))["account_id"]

    again = await opened(gateway, redirect_url=ELSEWHERE, account_id=id_)
    await mine.get(again)
    form = {"email": "me@nowhere.test", "password": "canary-other", "pop3_host": "93.184.216.34", "pop3_port": "995"}
    done = await mine.post(again, data=form)

    assert left_for(done.text) == f"{ELSEWHERE}?account_id={id_}"
    assert gateway.backends.tried[-1]["pop3"].password == "canary-other"
    assert "imap" not in gateway.backends.tried[-1]


async def test_an_embedded_account_is_connected_to_nothing(gateway: Gateway) -> None:
    id_ = await gateway.harness.add_account("ann@demo.test")

    refused = await gateway.admin.post("/v1/connect/sessions", json={"redirect_url": ELSEWHERE, "account_id": id_})

    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/account_id")


async def test_passwords_cannot_be_tried_for_ever(gateway: Gateway) -> None:
    gateway.backends.refusal = LoginRefused()
    url, mine = await opened(gateway, redirect_url=ELSEWHERE), client_of(gateway.app, {})
    await mine.get(url)
    form = {"email": "me@nowhere.test", "password": "x", "imap_host": "93.184.216.34", "imap_port": "993"}

    statuses = [(await mine.post(url, data=form)).status_code for _ in range(12)]

    assert statuses == [422] * 10 + [404] * 2


async def test_a_host_inside_that_is_typed_on_the_page_is_not_connected_to(gateway: Gateway) -> None:
    url, mine = await opened(gateway, redirect_url=ELSEWHERE), client_of(gateway.app, {})
    await mine.get(url)
    form = {"email": "me@nowhere.test", "password": "x", "imap_host": "10.0.0.1", "imap_port": "993"}

    answer = await mine.post(url, data=form)

    assert answer.status_code == 422
    assert escape(AddressNotAllowed.problem.title) in answer.text
    assert gateway.backends.verified == []


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/done",
        "https://app.test.evil.test/done",
        "https://app.test@evil.test/done",
        "https://app.test/other",
        "https://app.test/done/../other",
        "https://app.test/done%0d%0a",
        "http://app.test/done",
        "javascript:alert(1)",
        "//app.test/done",
    ],
)
async def test_a_session_leads_back_to_where_it_may_alone(gateway: Gateway, app_id: str, url: str) -> None:
    refused = await gateway.admin.post("/v1/connect/sessions", json={"redirect_url": url, "oauth_app_id": app_id})

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/redirect_url"


@pytest.mark.parametrize("url", [DONE, f"{DONE}/deep?x=1", "https://other.test/anything"])
async def test_a_session_leads_back_to_what_the_app_or_the_install_allows(
    gateway: Gateway, app_id: str, url: str
) -> None:
    made = await gateway.admin.post("/v1/connect/sessions", json={"redirect_url": url, "oauth_app_id": app_id})

    assert made.status_code == 201


async def test_a_session_of_one_app_offers_no_other_way(gateway: Gateway, app_id: str) -> None:
    url, mine = await opened(gateway, oauth_app_id=app_id), client_of(gateway.app, {})
    page = await mine.get(url)

    assert 'name="password"' not in page.text
    assert (await mine.post(url, data={"app": "app_other"})).status_code == 404
    assert (await mine.post(url, data={"email": "a@b.test", "password": "x"})).status_code == 422
    assert gateway.backends.verified == []


async def test_a_session_s_secrets_are_not_in_clear_on_disk(gateway: Gateway, app_id: str) -> None:
    url, mine = await opened(gateway), browser(gateway)
    await mine.open(url)
    leads_to = await mine.choose_app(url, app_id)

    state = dict(parse_qsl(urlsplit(leads_to).query))["state"]
    for secret in (url.rpartition("/")[2], state):
        assert files_holding(gateway.folder, secret.encode()) == []


async def test_a_link_ends_by_itself(gateway: Gateway, app_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.sign_in.connecting.SESSION_SECONDS", 0)

    assert (await browser(gateway).open(await opened(gateway))).status_code == 404


async def test_a_browser_that_makes_up_its_cookie_is_another_browser(gateway: Gateway, app_id: str) -> None:
    made = (await gateway.admin.post("/v1/connect/sessions", json={"redirect_url": DONE})).json()
    mine = browser(gateway)
    await mine.open(made["url"])
    back = await mine.consent(await mine.choose_app(made["url"], app_id))

    forger = client_of(gateway.app, {"Cookie": f"postgate_{made['id']}=made-up"})

    assert (await forger.get(made["url"])).status_code == 404
    assert (await forger.get(back)).status_code == 404
    assert outcome_of(await mine.open(back))["account_id"]
