"""Fixtures of the operators' tests."""

from __future__ import annotations

import pytest

from helmr_provider._common import cleanup


@pytest.fixture(autouse=True)
def clean_ups_give_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat no clean-up for minutes: an outage of a test lasts until the test ends it."""
    monkeypatch.setattr(cleanup, "_FIRST_GAP", 0.01)
    monkeypatch.setattr(cleanup, "_TOTAL_SECONDS", 0.05)
