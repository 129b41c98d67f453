"""docs/api.md says what the docstrings say, and the docstrings say what the methods send."""

from __future__ import annotations

import ast
import re
import sys
from typing import TYPE_CHECKING

import pytest

from dev import api_page
from helmr_provider.client._wire.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from pathlib import Path


def method(source: str) -> ast.FunctionDef:
    (found,) = ast.parse(source).body
    assert isinstance(found, ast.FunctionDef)
    return found


def test_the_page_is_what_the_docstrings_make() -> None:
    assert api_page.PAGE.read_text() == api_page.page(), "run make generate"


def test_every_operation_is_in_the_page_or_has_a_reason_not_to_be() -> None:
    named = set(re.findall(r"\w+", api_page.page()))
    assert {name for name in ENDPOINTS if not name.endswith("ByExternalId")} <= named


def test_a_stale_page_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stale = tmp_path / "api.md"
    monkeypatch.setattr(api_page, "PAGE", stale)
    monkeypatch.setattr(sys, "argv", ["api_page.py", "--check"])
    assert api_page.main() == 1
    stale.write_text(api_page.page())
    assert api_page.main() == 0
    stale.write_text(stale.read_text().replace("getRun", "getRuns"))
    assert api_page.main() == 1


def test_a_docstring_that_hides_an_operation_is_refused() -> None:
    owner = api_page.Class("Runs", [])
    lying = method('def stop(self):\n    """Stop a run (getRun)."""\n    return self._transport.call("cancelRun")')
    with pytest.raises(SystemExit, match=r"Runs\.stop sends cancelRun"):
        api_page.operations(owner, lying, {})
    silent = method('def stop(self):\n    """Stop a run."""\n    return self._other.stop()')
    assert api_page.operations(owner, silent, {}) is None
    honest = method('def open(self):\n    """Return a handle; sends nothing."""\n    return Handle()')
    assert api_page.operations(owner, honest, {}) == ()
