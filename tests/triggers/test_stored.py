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


FORMS = {f"{path.stem} {name}": form for path in STORED for name, form in json.loads(path.read_text()).items()}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_what_a_release_has_stored_can_be_resumed(form: tuple[str, dict[str, Any]]) -> None:
    class_path, kwargs = form
    again = json.loads(json.dumps(import_string(class_path)(**kwargs).serialize()))
    # A later release may store more.
    assert again == [class_path, {**again[1], **kwargs}]


def test_of_every_trigger_there_is_a_stored_form() -> None:
    stored = {class_path for class_path, _ in FORMS.values()}
    modules = [name for entry in get_provider_info()["triggers"] for name in entry["python-modules"]]
    triggers = {
        f"{name}.{value.__qualname__}"
        for name in modules
        for value in vars(import_module(name)).values()
        if isinstance(value, type) and issubclass(value, HelmrTrigger) and value.__module__ == name
    }
    assert triggers - stored == set()
