"""The part of a running task's context that operators without a wait read."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any


def context(*, try_number: int = 1, max_tries: int = 2, map_index: int = -1, task_id: str = "ask", **run: Any) -> Any:
    """The parts of a running task's context that are read."""
    run_start = run.get("start_date", datetime(2026, 11, 23, 12, tzinfo=UTC))
    ti = SimpleNamespace(
        id=f"ti-{try_number}",
        dag_id="dag",
        run_id="manual__1",
        task_id=task_id,
        map_index=map_index,
        try_number=try_number,
        max_tries=max_tries,
        start_date=run_start,
        xcom_push=lambda key, value: None,
    )
    return {"ti": ti, "dag_run": SimpleNamespace(start_date=run_start)}
