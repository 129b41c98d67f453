"""The classes of the client and their public members."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import helmr_provider.client

PACKAGE = Path(helmr_provider.client.__file__).parent
MODULES = sorted(path.stem for path in (PACKAGE / "_async").glob("*.py") if path.stem != "__init__")
RENAMED = {"__aenter__": "__enter__", "__aexit__": "__exit__", "aclose": "close"}


def public_members(owner: type) -> dict[str, Any]:
    return {
        RENAMED.get(name, name): member
        for name, member in vars(owner).items()
        if not name.startswith("_") or name in {"__init__", *RENAMED, *RENAMED.values()}
    }


def classes(tree: str, module: str) -> dict[str, type]:
    loaded = import_module(f"helmr_provider.client.{tree}.{module}")
    return {
        name.removeprefix("Async"): value
        for name, value in vars(loaded).items()
        if inspect.isclass(value) and value.__module__ == loaded.__name__ and not name.startswith("_")
    }
