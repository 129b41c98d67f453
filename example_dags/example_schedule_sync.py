"""Keep schedules in a file beside the DAG, and apply them with the differences shown in the task's log.

Runs unchanged against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import Param, dag

from helmr_provider.operators.schedule import HelmrSyncSchedulesOperator


@dag(
    schedule=None,
    params={"month_end": Param(True, type="boolean", description="Whether the schedule for the month's end fires.")},
    # Only needed if the file is not in the DAG folder itself.
    template_searchpath=str(Path(__file__).parent),
    tags=["helmr", "example"],
)
def example_schedule_sync() -> None:
    """Show the differences, then apply them; schedules that were removed from the file are deleted."""
    review, apply = (
        HelmrSyncSchedulesOperator(
            task_id=task_id,
            schedules="helmr_schedules.yaml",
            owned_prefix="acme.",
            prune=True,
            preview_only=preview_only,
        )
        for task_id, preview_only in (("review", True), ("apply", False))
    )
    review >> apply


example_schedule_sync()
