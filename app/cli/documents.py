"""Documents generated from the code: `postgate openapi` and `postgate settings`."""

from __future__ import annotations

from pathlib import Path

from app.settings import Settings


def openapi(folder: Path = Path("openapi")) -> None:
    """Generate openapi.json and asyncapi.yaml from the code."""
    from app.api.application import create_api
    from app.api.openapi import write

    write(create_api(), folder)


def settings() -> None:
    """Print all settings as a Markdown table (docs/settings.md)."""
    print("# Settings\n\nRead from the environment. Times and sizes have their unit in the name.\n")
    print("| Setting | Default | Meaning |\n|---|---|---|")
    for name, field in Settings.model_fields.items():
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        cell = f"`{default}`" if default not in (None, "") else ""
        print(f"| `POSTGATE_{name.upper()}` | {cell} | {field.description} |")
