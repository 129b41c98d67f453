"""Mapped tasks that no worker runs: their pool has no slots. The benchmark defers them in the database."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task


@dag(schedule=None)
def held_waits() -> None:
    """Create as many task instances as the configuration says."""

    @task
    def numbers(dag_run: Any = None) -> list[int]:
        return list(range(int(dag_run.conf["count"])))

    @task(pool="held")
    def work(number: int) -> None:
        raise RuntimeError(f"task {number} was not to run")

    work.expand(number=numbers())


held_waits()
