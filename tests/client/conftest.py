"""What tests of the client share."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.conftest import MEASURED

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say something to who runs the tests, whether they pass or not."""
    return partial(record_property, MEASURED)
