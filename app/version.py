"""The version of Postgate, which is defined in pyproject.toml."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("postgate")
