"""Earlier path of names in :mod:`helmr_provider.operators.token`."""

from __future__ import annotations

from helmr_provider.operators.token import HelmrCreatePublicTokenOperator

__all__ = ["HelmrCreatePublicTokenOperator"]
