"""Handle a failed session: notify an agent, use its answer, and clean up.

Runs unchanged against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from airflow.providers.common.compat.sdk import dag, task

from helmr_provider.notifications import HelmrNotifier
from helmr_provider.operators.session import (
    HelmrCancelSessionOperator,
    HelmrCleanupSessionsOperator,
    HelmrStartSessionOperator,
)
from helmr_provider.sensors.run import HelmrRunSensor

log = logging.getLogger(__name__)


@dag(schedule=None, tags=["helmr", "example"])
def example_failure_and_cleanup() -> None:
    """Start an agent that listens, let another one fail, and send the failure to the first."""
    # Listens on its input stream; this task does not wait for it.
    listen = HelmrStartSessionOperator(task_id="listen", task="wait-for-input", wait_for_completion=False)
    session_id = "{{ ti.xcom_pull(task_ids='listen', key='session_id') }}"

    deploy = HelmrStartSessionOperator(
        task_id="deploy",
        task="fail",
        payload={"message": "the staging database is out of space"},
        deferrable=True,
        on_failure_callback=HelmrNotifier(
            session_id=session_id,
            stream="messages",
            message={"failed": "{{ ti.task_id }}", "dag_run": "{{ run_id }}"},
        ),
    )

    heard = HelmrRunSensor(
        task_id="heard",
        run_id="{{ ti.xcom_pull(task_ids='listen', key='run_id') }}",
        trigger_rule="one_failed",
        poke_interval=1,
        timeout=120,
    )

    @task
    def use(answer: dict[str, Any]) -> str:
        log.info("The agent has taken up: %s", answer["message"])
        return str(answer["message"]["failed"])

    # Teardowns always run, and their state does not affect that of the DAG run.
    stop_listening = HelmrCancelSessionOperator(task_id="stop_listening", session_id=session_id)
    clean_up = HelmrCleanupSessionsOperator(task_id="clean_up", older_than="1h", only_dag_id="{{ dag.dag_id }}")

    listen >> deploy >> heard
    used = use(cast("dict[str, Any]", heard.output))
    used >> stop_listening.as_teardown(setups=listen) >> clean_up.as_teardown()


example_failure_and_cleanup()
