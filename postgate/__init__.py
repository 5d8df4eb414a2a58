"""Postgate under its own name: `postgate.settings` is the module `app.settings`, and so on for all modules.

The code lies in the package `app` beside this one. It is loaded from there, whatever the working directory or
PYTHONPATH hold: an `app` of somebody else in them is not taken for it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

_PREFIX = f"{__name__}."
_OWN = f"{__name__}.__main__"
_CODE = Path(__file__).resolve().parent.parent / "app"


def _load_code() -> None:
    """Load the package `app` that lies beside this one. ImportError where another `app` is loaded already."""
    loaded = sys.modules.get("app")
    if loaded is not None:
        if Path(loaded.__file__ or "").resolve().parent != _CODE:
            raise ImportError(f"Postgate needs its own package `app`, and {loaded.__file__} is loaded already")
        return
    spec = spec_from_file_location("app", _CODE / "__init__.py", submodule_search_locations=[str(_CODE)])
    if spec is None or spec.loader is None:
        raise ImportError(f"Postgate's package `app` is missing: {_CODE}")
    module = sys.modules["app"] = module_from_spec(spec)
    spec.loader.exec_module(module)


class _Alias(MetaPathFinder, Loader):
    """Finds `postgate.x` as the module `app.x`: one module under two names."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith(_PREFIX) and fullname != _OWN else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        name = _code_name(spec.name)
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name) from None
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to run. The import system has put the alias into the module's `__spec__`: undo that."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state

    def get_code(self, fullname: str) -> CodeType | None:
        """For `python -m postgate.x`."""
        spec = find_spec(_code_name(fullname))
        loader = None if spec is None else spec.loader
        return loader.get_code(_code_name(fullname)) if isinstance(loader, InspectLoader) else None


def _code_name(alias: str) -> str:
    return f"app.{alias.removeprefix(_PREFIX)}"


_load_code()
sys.meta_path.insert(0, _Alias())
