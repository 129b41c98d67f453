"""Operators for schedules: one schedule at a time, or all that are declared.

Import the operators from this package; its modules divide the code.
"""

from __future__ import annotations

from helmr_provider.operators.schedule.single import (
    HelmrActivateScheduleOperator,
    HelmrCreateScheduleOperator,
    HelmrDeactivateScheduleOperator,
    HelmrDeleteScheduleOperator,
)
from helmr_provider.operators.schedule.sync import (
    HelmrSyncSchedulesOperator,
)

__all__ = [
    "HelmrActivateScheduleOperator",
    "HelmrCreateScheduleOperator",
    "HelmrDeactivateScheduleOperator",
    "HelmrDeleteScheduleOperator",
    "HelmrSyncSchedulesOperator",
]
