"""DAGs whose waits are mapped, sensed, or given up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from airflow.sdk import dag, task

from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.sensors.run import HelmrRunSensor
from helmr_provider.sensors.token import HelmrTokenSensor

PAYLOAD = {"token_id": "{{ dag_run.conf['token_id'] }}"}
# As in the other scenarios: Airflow loses a task now and then, and a retry costs nothing.
RETRIED = {"retries": 3, "retry_delay": timedelta(0)}


@dag(schedule=None, default_args=RETRIED)
def mapped_sessions_ending_apart() -> None:
    """Start three sessions together, wait for all, and use what those that succeeded have returned."""
    work = HelmrStartSessionOperator.partial(task_id="work", task="gated", deferrable=True).expand(
        payload=[{**PAYLOAD, "number": number} for number in range(3)]
    )

    @task(trigger_rule="all_done")
    def use(results: Any) -> list[str]:
        return [result["opened_with"] for result in results]

    use(work.output)


@dag(schedule=None, default_args=RETRIED)
def sensed_run() -> None:
    """Start a session without waiting, and wait for its run in another task."""
    started = HelmrStartSessionOperator(task_id="started", task="gated", payload=PAYLOAD, wait_for_completion=False)
    work = HelmrRunSensor(task_id="work", run_id=cast("Any", started.output)["run_id"], deferrable=True)

    @task
    def use(result: dict[str, Any]) -> str:
        return f"used {result['opened_with']}"

    use(cast("dict[str, Any]", work.output))


@dag(schedule=None)
def sensors_that_give_up() -> None:
    """Wait for what does not happen: one sensor of a kind fails, the other one is skipped."""
    started = HelmrStartSessionOperator(task_id="started", task="gated", payload=PAYLOAD, wait_for_completion=False)
    run_id, token_id = cast("Any", started.output)["run_id"], PAYLOAD["token_id"]
    for ends, soft_fail in (("fails", False), ("is_skipped", True)):
        HelmrRunSensor(task_id=f"run_{ends}", run_id=run_id, deferrable=True, timeout=20, soft_fail=soft_fail)
        HelmrTokenSensor(task_id=f"token_{ends}", token_id=token_id, deferrable=True, timeout=20, soft_fail=soft_fail)


mapped_sessions_ending_apart()
sensed_run()
sensors_that_give_up()
