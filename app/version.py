"""The version of this Postgate. pyproject.toml is the only place where it is written."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("postgate")
