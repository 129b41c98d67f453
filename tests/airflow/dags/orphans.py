"""The search for orphans: first a preview, then the cancellation."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag

from helmr_provider.operators.session import HelmrCancelOrphansOperator


@dag(schedule=None, default_args={"retries": 3, "retry_delay": timedelta(0)})
def cancels_orphans() -> None:
    """List the orphans of one DAG, then cancel them."""
    preview, work = (
        HelmrCancelOrphansOperator(task_id=task_id, only_dag_id="gated_session", min_age=0, preview_only=only)
        for task_id, only in (("preview", True), ("work", False))
    )
    preview >> work


cancels_orphans()
