"""Schedules kept in a file beside the DAG, and made true with a difference that everybody can read in the task's log.

Runs as it is against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.common.compat.sdk import Param, dag

from helmr_provider.operators.schedule import HelmrSyncSchedulesOperator


@dag(
    schedule=None,
    params={"month_end": Param(True, type="boolean", description="Whether the schedule for the month's end fires.")},
    # Only needed where the file does not lie in the folder of the DAGs itself.
    template_searchpath=str(Path(__file__).parent),
    tags=["helmr", "example"],
)
def example_schedule_sync() -> None:
    """Show what differs; then make it true, schedules that have left the file included."""
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
