"""Run twenty sessions in parallel and combine their results; no worker slot is held during the waits.

Runs unchanged against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from airflow.providers.common.compat.sdk import dag, task

from helmr_provider.client import Task
from helmr_provider.decorators import helmr_session_task


@dataclass
class Release:
    """The payload; a value that does not fit fails before anything is started."""

    repository: str
    decision: bool = True
    work_seconds: float = 0.1


SUMMARY: Task[Release, Any] = Task("release-summary", payload=Release)


@dag(schedule=None, tags=["helmr", "example"])
def example_fan_out() -> None:
    """Let an agent summarise the release of each repository, then count the changes."""

    @task
    def repositories() -> list[str]:
        return [f"acme/service-{number:02}" for number in range(1, 21)]

    # Runs with the same concurrency key share the concurrency limit of their queue in Helmr. To limit the sessions in
    # total, queued ones included, use a pool that was created with "include deferred". (On Airflow 3.3, deferred tasks
    # also count for max_active_tis_per_dagrun.)
    # This is @task.helmr_session; imported, type checkers can compare the function's result with the payload type.
    @helmr_session_task(
        task=SUMMARY,
        concurrency_key="release-summaries",
        deferrable=True,
        close_session=True,
        logs="off",
    )
    def summarise(repository: str) -> Release:
        return Release(repository)

    @task
    def report(summaries: Any) -> dict[str, Any]:
        found = list(summaries)
        approved = sum(summary["approved"] for summary in found)
        return {"repositories": len(found), "approved": approved, "last": found[-1]["summary"]}

    report(summarise.expand(repository=cast("Any", repositories())))


example_fan_out()
