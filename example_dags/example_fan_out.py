"""Twenty sessions at once, and one task that puts their results together; no worker waits for any of them.

Runs as it is against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from airflow.providers.common.compat.sdk import dag, task

from helmr_provider.client import Task
from helmr_provider.decorators import helmr_session_task


@dataclass
class Release:
    """What the agent is given; a payload that is not one fails before anything is started."""

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

    # The concurrency key bounds how many run at once: sessions that share it take turns as their queue in Helmr says.
    # How many are there at all, queued ones included, a pool bounds in which deferred tasks count: create it with
    # "include deferred", and name it here with pool=…. (Airflow 3.3 counts them for max_active_tis_per_dagrun, too.)
    # The same as @task.helmr_session; imported, it lets type checkers compare the function's result with the payload.
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
