"""Operators for schedules: one schedule at a time, or all that are declared.

Import the operators from this package; its modules divide the code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helmr_provider.operators._lazy import load_at_first_use

if TYPE_CHECKING:
    from helmr_provider.operators.schedule.single import (
        HelmrActivateScheduleOperator,
        HelmrCreateScheduleOperator,
        HelmrDeactivateScheduleOperator,
        HelmrDeleteScheduleOperator,
    )
    from helmr_provider.operators.schedule.sync import HelmrSyncSchedulesOperator
else:
    __getattr__, __dir__ = load_at_first_use(
        __name__,
        {
            "HelmrActivateScheduleOperator": "single",
            "HelmrCreateScheduleOperator": "single",
            "HelmrDeactivateScheduleOperator": "single",
            "HelmrDeleteScheduleOperator": "single",
            "HelmrSyncSchedulesOperator": "sync",
        },
    )

__all__ = [
    "HelmrActivateScheduleOperator",
    "HelmrCreateScheduleOperator",
    "HelmrDeactivateScheduleOperator",
    "HelmrDeleteScheduleOperator",
    "HelmrSyncSchedulesOperator",
]
