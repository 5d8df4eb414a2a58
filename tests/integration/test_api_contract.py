"""Requests that are made up from the description: no answer may be a fault of ours, or one that it does not name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from app.api.application import create_api
from app.services.access.callers import ACCOUNT_SCOPES
from app.services.oauth.apps import OAuthAppOrder
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.media_types import YAML_MEDIA_TYPES
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.gateway import Gateway, open_gateway

load_all_checks()
schemathesis.serializer.alias("message/rfc822", "text/plain")


@schemathesis.deserializer(*YAML_MEDIA_TYPES)
def _text(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> str:
    """asyncapi.yaml is described as text: clients that are generated return it as it is."""
    return response.text


API = create_api()
schema = schemathesis.openapi.from_asgi("/v1/openapi.json", API)
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MAIL = b"From: Ann <ann@demo.test>\r\nTo: Bob <bob@demo.test>\r\nSubject: Hello\r\n\r\nHello\r\n"
REMOVING = (
    "deleteAccount",
    "deleteMailbox",
    "deleteMessage",
    "signOut",
    "deleteOAuthApp",
    "batchMessages",
    "moveMessages",
)
"""Operations that would take away what the others are tried on."""


@dataclass(frozen=True, slots=True)
class Known:
    """Ids that exist, and who may use them."""

    paths: dict[str, str]
    admin: dict[str, str]


async def _prepare(gateway: Gateway) -> Known:
    account_id = await gateway.harness.add_account("ann@demo.test")
    inbox = await gateway.harness.mailbox(account_id)
    content = await gateway.harness.store.keep(MAIL)
    applied = await gateway.harness.store.add(account_id, inbox.id, [(content, frozenset(), None)])
    await gateway.token(account_id, scopes=sorted(ACCOUNT_SCOPES))
    app = await gateway.services.oauth_apps.add("google", OAuthAppOrder(client_id="us"))
    ids = {"account_id": account_id, "mailbox_id": inbox.id, "message_id": next(iter(applied.message_ids.values()))}
    ids["oauth_app_id"] = app.id
    return Known(ids, {"Authorization": gateway.admin.headers["Authorization"]})


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    folder: Path = tmp_path_factory.mktemp("contract")
    with asyncio.Runner() as runner:
        opened = open_gateway(folder, requests_per_minute=10**9)
        gateway = runner.run(opened.__aenter__())
        API.state.services = gateway.services
        yield runner.run(_prepare(gateway))
        runner.run(opened.__aexit__(None, None, None))


@schema.parametrize()
@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_description_names(case: schemathesis.Case[Any], known: Known) -> None:
    if case.operation.definition.raw.get("operationId") not in REMOVING:
        case.path_parameters.update(
            {name: value for name, value in known.paths.items() if name in case.path_parameters}
        )
    if "wait" in case.query:
        case.query["wait"] = 0
    response = case.call(headers=known.admin)

    assert response.status_code != 500
    body = case.meta.components.get(ParameterLocation.BODY) if case.meta is not None else None
    is_body_wrong = body is not None and body.mode is GenerationMode.NEGATIVE
    case.validate_response(response, checks=[*CHECKS, negative_data_rejection] if is_body_wrong else CHECKS)
