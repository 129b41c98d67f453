"""What every suite here says of a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helmr_provider.client import HelmrApiError

if TYPE_CHECKING:
    from collections.abc import Callable


def refused(status: int, code: str | None, call: Callable[[], Any]) -> None:
    """Check that a call is refused with a status and a code."""
    with pytest.raises(HelmrApiError) as caught:
        call()
    assert (caught.value.status, caught.value.code) == (status, code)
