"""Tasks that are stopped at a moment that the tests choose."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from typing import Any

from airflow.sdk import dag

from helmr_provider._common.task_state import task_state
from helmr_provider.operators.session import HelmrStartSessionOperator

PAYLOAD = {"token_id": "{{ dag_run.conf['token_id'] }}"}
RETRIED = {"retries": 3, "retry_delay": timedelta(0)}


class StoppedWhileDeferring(HelmrStartSessionOperator):
    """Receives SIGTERM between the decision to defer and the moment that Airflow knows of it, in its first try."""

    def defer(self, **kwargs: Any) -> Any:
        """Defer, and be asked to stop."""
        try:
            super().defer(**kwargs)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


class ClearedWhileResuming(HelmrStartSessionOperator):
    """Has its result, and returns it when a user has cleared the task in the same moment; in its first try."""

    def execute_complete(self, context: Any, event: Any = None, **kwargs: Any) -> Any:
        """Resume, and finish only after the clear."""
        result = super().execute_complete(context, event, **kwargs)
        give_up = time.monotonic() + 60
        while context["ti"].try_number == 1 and time.monotonic() < give_up:
            if task_state(context["ti"]) != "running":
                break
            time.sleep(0.1)
        return result


@dag(schedule=None, default_args=RETRIED)
def drained_session() -> None:
    """Wait on the worker; a drained node stops that."""
    HelmrStartSessionOperator(task_id="work", task="gated", payload=PAYLOAD, deferrable=False)


@dag(schedule=None, default_args=RETRIED)
def stopped_while_deferring() -> None:
    """Defer, and be stopped."""
    StoppedWhileDeferring(task_id="work", task="gated", payload=PAYLOAD, deferrable=True)


@dag(schedule=None, default_args={"retry_delay": timedelta(0)})
def cleared_while_resuming() -> None:
    """Resume, and be cleared."""
    ClearedWhileResuming(task_id="work", task="gated", payload=PAYLOAD, deferrable=True)


drained_session()
stopped_while_deferring()
cleared_while_resuming()
