"""Which origins and hosts are the install's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.api.origins import is_of_install, is_own_host, is_session
from app.settings import Settings


@pytest.mark.parametrize(
    ("public_url", "host", "is_own"),
    [
        (None, "anything.test", True),
        ("https://mail.test/", "mail.test", True),
        ("https://mail.test/", "MAIL.test", True),
        ("https://mail.test/", "mail.test:443", True),
        ("https://mail.test:443", "mail.test", True),
        ("http://mail.test", "mail.test:80", True),
        ("https://mail.test:8443", "mail.test:8443", True),
        ("https://mail.test:8443", "mail.test", False),
        ("https://mail.test/", "mail.test:80", False),
        ("https://mail.test/", "evil.test", False),
        ("https://mail.test/", "mail.test.evil.test", False),
        ("https://mail.test/", "127.0.0.1", False),
        ("https://mail.test/", "", False),
    ],
)
def test_a_host_is_our_own_where_the_public_url_names_it(
    tmp_path: Path, public_url: str | None, host: str, is_own: bool
) -> None:
    assert is_own_host(host, Settings(data_dir=tmp_path, public_url=public_url)) is is_own


@pytest.mark.parametrize(
    ("origin", "host", "is_of"),
    [
        ("https://listed.test", "mail.test", True),
        ("https://mail.test", "10.0.0.1", True),
        ("http://mail.test", "mail.test", False),
        ("http://evil.test", "evil.test", False),
        ("null", "null", False),
        ("", "", False),
    ],
)
def test_an_origin_is_of_the_install_by_its_list_or_its_public_url(
    tmp_path: Path, origin: str, host: str, is_of: bool
) -> None:
    settings = Settings(data_dir=tmp_path, public_url="https://mail.test", cors_origins=("https://listed.test",))

    assert is_of_install(origin, host, settings) is is_of


def test_the_paths_of_a_session_are_told_from_paths_that_begin_alike() -> None:
    assert is_session("/v1/session")
    assert is_session("/v1/session/refresh")
    assert not is_session("/v1/sessions")
    assert not is_session("/v1/me/session")
