"""Earlier path of names in :mod:`helmr_provider.operators.schedule`."""

from __future__ import annotations

from helmr_provider.operators.schedule import HelmrSyncSchedulesOperator

__all__ = ["HelmrSyncSchedulesOperator"]
