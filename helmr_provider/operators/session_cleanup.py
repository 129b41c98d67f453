"""Earlier path of names in :mod:`helmr_provider.operators.session`."""

from __future__ import annotations

from helmr_provider.operators.session import HelmrCleanupSessionsOperator

__all__ = ["HelmrCleanupSessionsOperator"]
