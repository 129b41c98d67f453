"""What tests of the client share."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Say something to who runs the tests, whether they pass or not."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text} ")

    return say
