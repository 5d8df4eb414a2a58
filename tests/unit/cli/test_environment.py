"""Settings in the environment: invalid values and misspelt names."""

from __future__ import annotations

import pytest
from app.cli.environment import read_settings, unknown_names
from app.settings import Settings
from typer import Exit


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("POSTGATE_HTP_PORT", "POSTGATE_HTTP_PORT"),
        ("POSTGATE_DATADIR", "POSTGATE_DATA_DIR"),
        ("POSTGATE_DOMAIN", "POSTGATE_DOMAINS"),
        ("postgate_data_dirs", "POSTGATE_DATA_DIR"),
        ("POSTGATE_XYZZY", None),
    ],
)
def test_a_misspelt_name_is_found_with_the_nearest_setting(name: str, nearest: str | None) -> None:
    assert list(unknown_names({name: "1", "PATH": "/bin"})) == [(name, nearest)]


def test_no_setting_is_taken_for_misspelt_in_capitals_or_not() -> None:
    names = [f"POSTGATE_{name.upper()}" for name in Settings.model_fields]
    environment = dict.fromkeys([*names, *map(str.lower, names), "POSTGATE_FAULT_POINT"], "1")

    assert list(unknown_names(environment)) == []


def test_what_kubernetes_sets_beside_a_service_called_postgate_is_not_misspelt() -> None:
    links = {
        "POSTGATE_SERVICE_HOST": "10.0.0.1",
        "POSTGATE_SERVICE_PORT": "8080",
        "POSTGATE_SERVICE_PORT_HTTP": "8080",
        "POSTGATE_PORT": "tcp://10.0.0.1:8080",
        "POSTGATE_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "POSTGATE_PORT_8080_TCP_ADDR": "10.0.0.1",
    }

    assert list(unknown_names(links)) == []
    assert [name for name, _ in unknown_names({"POSTGATE_PORT": "8080"})] == ["POSTGATE_PORT"]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("HTTP_PORT", "abc", "Input should be a valid integer, unable to parse string as an integer"),
        ("NET_ALLOW", "zz", "'zz' does not appear to be an IPv4 or IPv6 network"),
        ("DATABASE_URL", "mysql://x/y", "must begin with postgresql://"),
        ("SMARTHOST", "mx.example.com:", r"String should match pattern '^[^\s:]+(:\d{1,5})?$'"),
        ("SMARTHOST", "mx.example.com:smtp", r"String should match pattern '^[^\s:]+(:\d{1,5})?$'"),
    ],
)
def test_an_invalid_value_is_one_line_that_names_the_setting(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"POSTGATE_{name}", value)

    with pytest.raises(Exit) as ended:
        read_settings()

    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == f"postgate: POSTGATE_{name}: {reason}\n"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_database_url_may_have_any_usual_scheme(scheme: str) -> None:
    assert Settings(database_url=f"{scheme}://host/name").database_url == "postgresql+asyncpg://host/name"
