"""Requests that are made up from the description, against a running server: none is a fault of ours, or ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import schemathesis
from app.api.application import create_api
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok

from tests.servers.postgate import Postgate

CASES = 10_000
REQUEST_SECONDS = 60.0
REMOVING = {"deleteAccount", "deleteMailbox", "signOut", "deleteOAuthApp"}
"""Operations that would take away what the others are tried on."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgate]:
    server = Postgate(tmp_path, REQUESTS_PER_MINUTE="1000000000")
    server.start()
    yield server
    server.stop()


@pytest.mark.soak
@pytest.mark.timeout(3500)
def test_ten_thousand_made_up_requests_are_answered_and_none_is_a_fault_of_ours(server: Postgate) -> None:
    assert _ask(server, CASES) >= CASES


def _ask(server: Postgate, cases: int) -> int:
    """Send each operation its share, and a quarter more: some have few forms. How many requests it was."""
    schema = schemathesis.openapi.from_dict(create_api().openapi())
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    asked = 0
    with server.client() as client:
        for operation in operations:
            asked += _ask_operation(server, client, operation, 5 * cases // (4 * len(operations)))
        assert client.get("/v1/health/ready").status_code == 200
    return asked


def _ask_operation(server: Postgate, client: httpx2.Client, operation: Any, examples: int) -> int:
    is_removing = operation.definition.raw.get("operationId") in REMOVING
    account_id = server.user()["account_id"]
    asked = 0

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case[Any]) -> None:
        nonlocal asked
        asked += 1
        if "account_id" in case.path_parameters and not is_removing:
            case.path_parameters["account_id"] = account_id
        if "wait" in case.query:
            case.query["wait"] = 0
        answer = case.call(base_url=str(client.base_url), headers=dict(client.headers), timeout=REQUEST_SECONDS)
        assert answer.status_code not in (500, 502, 504), (case.method, case.formatted_path, answer.status_code)

    ask()
    return asked
