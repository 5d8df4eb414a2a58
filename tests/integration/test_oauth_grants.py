"""Access tokens of grants, renewed at a real authorization server."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from app.errors import LoginRefused, MailServerError, ServerRefused, Unreachable
from app.mail.identifiers import now_ms
from app.security.netguard import NetGuard
from app.security.vault import MasterKeyError, Vault
from app.services.oauth.apps import OAuthApps
from app.services.oauth.authorization import MAX_LIFE_SECONDS, Authorization, TokenAnswer
from app.services.oauth.grants import Consent, Grants
from app.workers.loop import persist

from tests.gateway import MASTER_KEY, Gateway, files_holding, open_gateway
from tests.oauth import app_order
from tests.servers.authorization_server import AuthorizationServer

USER = "ann@mail.test"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, net_allow="127.0.0.0/8") as gateway:
        yield gateway


@pytest.fixture
async def app_id(gateway: Gateway, authorization_server: AuthorizationServer) -> str:
    made = await gateway.admin.post("/v1/oauth-apps", json=app_order(authorization_server))
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


class Grant:
    """A grant of USER, without an access token at first."""

    def __init__(self, gateway: Gateway, grant_id: str) -> None:
        self._grants = gateway.services.grants
        self.id = grant_id

    async def token(self, refused: str | None = None) -> str:
        return await self._grants.token(self.id, refused=refused)

    def doubt(self, fresh: str) -> None:
        self._grants.doubt(self.id, fresh)


@pytest.fixture
async def grant(gateway: Gateway, app_id: str, authorization_server: AuthorizationServer) -> AsyncIterator[Grant]:
    async with gateway.services.grants.trial(Consent(app_id, authorization_server.consent(USER))) as tokens:
        assert tokens is not None
        yield Grant(gateway, tokens.grant_id)


async def test_a_token_is_kept_as_long_as_it_lives(grant: Grant, authorization_server: AuthorizationServer) -> None:
    first = await grant.token()

    assert await grant.token() == first
    assert authorization_server.is_valid(USER, first)
    assert authorization_server.asked["refresh_token"] == 1


async def test_a_token_that_soon_ends_is_renewed_before_it_is_used(
    grant: Grant, authorization_server: AuthorizationServer
) -> None:
    authorization_server.access_seconds = 30
    first = await grant.token()

    assert await grant.token() != first


async def test_two_that_connect_at_once_make_one_refresh(
    grant: Grant, authorization_server: AuthorizationServer
) -> None:
    authorization_server.delay_seconds = 0.2

    tokens = await asyncio.gather(*(grant.token() for _ in range(20)))

    assert len(set(tokens)) == 1
    assert authorization_server.asked["refresh_token"] == 1


async def test_a_refused_token_is_never_given_again(grant: Grant, authorization_server: AuthorizationServer) -> None:
    first = await grant.token()

    renewed = await asyncio.gather(*(grant.token(refused=first) for _ in range(5)))

    assert len(set(renewed)) == 1
    assert first not in renewed
    assert authorization_server.asked["refresh_token"] == 2


async def test_a_server_that_declines_fresh_tokens_too_makes_no_work_for_the_authorization_server(
    grant: Grant, authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = await grant.token(refused=await grant.token())
    grant.doubt(fresh)
    for _ in range(5):
        assert await grant.token() == fresh
        with pytest.raises(LoginRefused, match="refuses the tokens"):
            await grant.token(refused=fresh)
    assert authorization_server.asked["refresh_token"] == 2

    monkeypatch.setattr("app.services.oauth.grants.DOUBT_SECONDS", 0.0)
    grant.doubt(fresh)

    assert await grant.token(refused=fresh) != fresh


async def test_a_rotated_refresh_token_is_kept_even_if_nobody_waits_for_it_any_more(
    grant: Grant, authorization_server: AuthorizationServer
) -> None:
    authorization_server.delay_seconds = 0.3
    asking = asyncio.create_task(grant.token())
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    first = await grant.token()

    assert authorization_server.is_valid(USER, first)
    assert authorization_server.asked["refresh_token"] == 1
    assert await grant.token(refused=first) != first  # the second refresh token works: it was not lost


async def test_a_server_that_does_not_rotate_keeps_its_refresh_token(
    grant: Grant, authorization_server: AuthorizationServer
) -> None:
    authorization_server.rotates = False
    first = await grant.token()

    assert await grant.token(refused=first) != first


async def test_a_revoked_grant_asks_for_consent_and_the_server_no_more(
    grant: Grant, authorization_server: AuthorizationServer
) -> None:
    first = await grant.token()
    authorization_server.revoke(USER)

    for _ in range(3):
        with pytest.raises(LoginRefused):
            await grant.token(refused=first)

    assert authorization_server.asked["refresh_token"] == 2


async def test_a_server_that_is_down_is_unreachable_and_left_in_peace_for_a_while(
    grant: Grant, authorization_server: AuthorizationServer
) -> None:
    authorization_server.is_down = True
    for _ in range(10):
        with pytest.raises(Unreachable):
            await grant.token()

    assert authorization_server.asked["refresh_token"] < 4
    authorization_server.is_down = False
    deadline = time.monotonic() + 10
    while True:
        try:
            assert await grant.token()
            break
        except Unreachable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)


async def another(gateway: Gateway, app_id: str, authority: AuthorizationServer) -> Grant:
    """A grant of another account of the same app."""
    async with gateway.services.grants.trial(Consent(app_id, authority.consent("bob@mail.test"))) as tokens:
        assert tokens is not None
        return Grant(gateway, tokens.grant_id)


async def test_an_error_of_one_grant_keeps_no_other_account_of_the_app_waiting(
    gateway: Gateway, app_id: str, grant: Grant, authorization_server: AuthorizationServer
) -> None:
    other = await another(gateway, app_id, authorization_server)
    authorization_server.says = 400, {"error": "admin_policy_enforced"}
    for _ in range(5):
        with pytest.raises((ServerRefused, Unreachable)):
            await grant.token()
    assert authorization_server.asked["refresh_token"] < 4

    authorization_server.says = None

    assert await other.token()


@pytest.mark.parametrize(
    "answer", [(400, {"error": "unauthorized_client"}), (429, {"error": "rate_limit_exceeded"})], ids=["client", "rate"]
)
async def test_an_error_of_the_app_is_every_accounts(
    gateway: Gateway, app_id: str, grant: Grant, authorization_server: AuthorizationServer, answer: tuple[int, Any]
) -> None:
    other = await another(gateway, app_id, authorization_server)
    authorization_server.says = answer
    for _ in range(5):
        for one in (grant, other):
            with pytest.raises((ServerRefused, Unreachable)):
                await one.token()

    assert authorization_server.asked["refresh_token"] < 4


TOKEN: dict[str, Any] = {"access_token": "canary-access", "token_type": "Bearer"}
TIMES: list[Any] = ["soon", [1], {}, float("inf"), float("nan"), -1, "9" * 5000]
STRANGE: list[Any] = [
    *(None, 5, 1.5, True, [], ["error"], "error", {}, {"error": None}, {"error": {"code": "invalid_grant"}}),
    *(TOKEN | {"expires_in": seconds} for seconds in TIMES),
    *(TOKEN | {"expires_at": when} for when in TIMES),
    *(TOKEN | {"access_token": token} for token in (None, 5, ["t"], "", "broken\nline", "x" * 100_000)),
    *(TOKEN | {"refresh_token": 5}, TOKEN | {"id_token": 5}, TOKEN | {"id_token": "a.b.c"}, TOKEN | {"scope": [1]}),
]


async def outcome_of(question: Awaitable[TokenAnswer]) -> TokenAnswer | MailServerError:
    try:
        return await question
    except MailServerError as error:
        return error


async def test_whatever_a_token_endpoint_says_is_a_token_or_an_error_of_the_origin(
    gateway: Gateway, app_id: str, authorization_server: AuthorizationServer
) -> None:
    app = await gateway.services.oauth_apps.get(app_id)
    authorization = Authorization(NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context())
    for status, said in product((200, 302, 400, 429, 500), STRANGE):
        authorization_server.says = status, said
        for question in (authorization.renew(app, "old"), authorization.exchange(app, "c", "https://x.test", "v")):
            outcome = await outcome_of(question)
            assert not isinstance(outcome, LoginRefused), said
            assert "canary" not in repr(outcome), said
            if isinstance(outcome, TokenAnswer):
                assert outcome.access_token == TOKEN["access_token"], said
                assert 0 <= outcome.expires_at_ms - now_ms() + 1000 <= (MAX_LIFE_SECONDS + 1) * 1000, said


async def test_a_wrong_client_secret_is_no_fault_of_the_accounts_owner(
    gateway: Gateway, app_id: str, grant: Grant
) -> None:
    await gateway.admin.patch(f"/v1/oauth-apps/{app_id}", json={"client_secret": "other"})

    with pytest.raises(ServerRefused):
        await grant.token()


async def test_no_token_and_no_client_secret_is_in_clear_on_disk(
    gateway: Gateway, grant: Grant, authorization_server: AuthorizationServer, capfd: pytest.CaptureFixture[str]
) -> None:
    token = await grant.token()

    assert token.startswith("canary-access")
    assert files_holding(gateway.folder, b"canary") == []
    authorization_server.revoke(USER)
    with pytest.raises(LoginRefused) as refusal:
        await grant.token(refused=token)
    assert "canary" not in repr(refusal.value)
    assert "canary" not in "".join(capfd.readouterr())


async def test_a_grant_whose_first_login_failed_is_gone(
    gateway: Gateway, app_id: str, authorization_server: AuthorizationServer
) -> None:
    grants = gateway.services.grants
    ids: list[str] = []

    async def try_it() -> None:
        consent = Consent(app_id, authorization_server.consent(USER), "given", now_ms() + 3_600_000)
        async with grants.trial(consent) as tokens:
            assert tokens is not None
            assert await tokens.token() == "given"
            ids.append(tokens.grant_id)
            raise LoginRefused

    with pytest.raises(LoginRefused):
        await try_it()
    with pytest.raises(LoginRefused, match="withdrawn"):
        await grants.token(ids[0])


async def test_grants_and_client_secrets_are_sealed_anew_with_the_newest_master_key(
    gateway: Gateway, grant: Grant, authorization_server: AuthorizationServer
) -> None:
    first, services = await grant.token(), gateway.services
    vault, guard = Vault([MASTER_KEY, bytes(32)]), NetGuard.of(["127.0.0.0/8"])
    apps = OAuthApps(gateway.harness.database, vault, guard)
    grants = Grants(
        gateway.harness.database, vault, apps, Authorization(guard, ssl.create_default_context()), persist=persist
    )

    assert (await apps.seal_anew(), await grants.seal_anew()) == (1, 1)
    assert (await apps.seal_anew(), await grants.seal_anew()) == (0, 0)
    with pytest.raises(MasterKeyError):
        await services.oauth_apps.all()
    assert await grants.token(grant.id) == first
    assert authorization_server.is_valid(USER, await grants.token(grant.id, refused=first))
