"""What the demo promises besides its story, which running it shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dev import demo

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_checkout_has_one_demo_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    first = demo.alone()
    assert first is not None
    assert demo.alone() is None
    os.close(first)
    second = demo.alone()
    assert second is not None
    os.close(second)
