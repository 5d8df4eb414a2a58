"""Reads settings from the environment, and finds variables that look like settings but are not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pydantic import ValidationError

from app import files
from app.cli.outcome import VALUE_ERROR, complain, fail
from app.settings import Settings

PREFIX = "POSTGATE_"
NAMES = tuple(sorted(name.upper() for name in Settings.model_fields))
FAULT_POINT = "POSTGATE_FAULT_POINT"
"""The point at which tests kill the process: see `app.faults`."""
_SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT).*|PORT(_\d+_(TCP|UDP).*)?")
"""Names that Kubernetes and Docker set in containers next to a service called `postgate`."""


def read_settings() -> Settings:
    """Read the settings from the environment. Exits with a line for each invalid one.

    A command that reads settings works on the data, so it also sets a umask that keeps its files private.
    """
    os.umask(files.OTHERS)
    try:
        return Settings()
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        fail(*(f"{PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix(VALUE_ERROR)}" for fault in faults))


def warn_of_unknown_names() -> None:
    """Print a warning for each environment variable that resembles a setting, with the nearest setting."""
    for name, nearest in unknown_names(os.environ):
        hint = f"; did you mean {nearest}?" if nearest else ""
        complain(f"warning: {name} is not a setting and is ignored{hint}")


def unknown_names(environment: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Variables with the settings' prefix that are not settings, each with the nearest setting or None."""
    for name, value in sorted(environment.items()):
        upper = name.upper()
        setting = upper.removeprefix(PREFIX)
        if not upper.startswith(PREFIX) or setting in NAMES or upper == FAULT_POINT:
            continue
        if _SERVICE_LINK.fullmatch(setting) and (setting != "PORT" or "://" in value):
            continue
        yield name, next((PREFIX + nearest for nearest in get_close_matches(setting, NAMES, n=1)), None)
