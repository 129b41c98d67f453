"""What one release has stored of a deferred task is resumed by every later one."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.module_loading import import_string

from helmr_provider.get_provider_info import get_provider_info
from helmr_provider.triggers.base import HelmrTrigger

STORED = sorted((Path(__file__).parent / "stored").glob("*.json"))


def forms(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("form", ["smallest", "largest"])
@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_what_a_release_has_stored_can_be_resumed(path: Path, form: str) -> None:
    class_path, kwargs = forms(path)[form]
    trigger = import_string(class_path)(**kwargs)
    assert json.loads(json.dumps({name: getattr(trigger, name) for name in kwargs})) == kwargs


def test_of_every_trigger_there_is_a_stored_form() -> None:
    stored = {form[0] for path in STORED for form in forms(path).values()}
    modules = [name for entry in get_provider_info()["triggers"] for name in entry["python-modules"]]
    triggers = {
        f"{name}.{value.__qualname__}"
        for name in modules
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and issubclass(value, HelmrTrigger) and value.__module__ == name
    }
    assert triggers - stored == set()
