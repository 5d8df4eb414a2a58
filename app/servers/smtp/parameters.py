"""Checks the arguments of MAIL and RCPT: an address, and parameters of the offered extensions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from app.errors import MalformedRequest
from app.servers.smtp.replies import BAD_PARAMETER, SYNTAX
from app.wire.smtp import Path, Refused, parse_path

MAIL_PARAMETERS = {
    "SIZE": re.compile(r"[0-9]{1,20}"),
    "BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE),
    "AUTH": re.compile(r"[!-~]{1,500}"),
    "RET": re.compile(r"FULL|HDRS", re.IGNORECASE),
    "ENVID": re.compile(r"[!-~]{1,100}"),
}
RCPT_PARAMETERS = {
    "NOTIFY": re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}", re.IGNORECASE),
    "ORCPT": re.compile(r"[A-Za-z0-9\-]{1,40};[!-~]{1,500}"),
}


def path_of(argument: str, keyword: str, refusal: bytes) -> Path:
    try:
        return parse_path(argument, keyword)
    except MalformedRequest:
        raise Refused(refusal) from None


def check_parameters(parameters: Mapping[str, str | None], known: Mapping[str, re.Pattern[str]]) -> None:
    """Raise Refused for a parameter that is unknown or has an invalid value."""
    for name, value in parameters.items():
        if name not in known:
            raise Refused(BAD_PARAMETER)
        if value is None or known[name].fullmatch(value) is None:
            raise Refused(SYNTAX)
