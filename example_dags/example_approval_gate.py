"""Start an agent's session after a person's decision, without holding a worker slot during the waits.

Runs unchanged against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any, cast

from airflow.providers.common.compat.sdk import Param, dag, task

from helmr_provider.hooks.helmr import HelmrHook
from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.operators.token import HelmrCreateTokenOperator
from helmr_provider.sensors.token import HelmrTokenSensor

log = logging.getLogger(__name__)


@dag(
    schedule=None,
    # A retry continues the wait or session of the try before.
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
    params={"thinking_seconds": Param(10, type="number", description="How long the person thinks before deciding.")},
    tags=["helmr", "example"],
)
def example_approval_gate() -> None:
    """Ask a person, pass the decision to an agent, wait for its result and use it."""
    create_token = HelmrCreateTokenOperator(task_id="create_token", timeout="1h")
    token_id = cast("str", create_token.output)  # what Airflow makes of it when the DAG runs

    @task
    def tell_reviewer(token_id: str) -> None:
        log.info("Please decide on token %s", token_id)

    @task
    def reviewer_decides(token_id: str, thinking_seconds: str) -> None:
        # Answers in place of the person, who would use a page or a chat message.
        time.sleep(float(thinking_seconds))
        HelmrHook().client.tokens.complete(token_id, {"approved": True, "comment": "Go ahead."})

    decision = HelmrTokenSensor(task_id="decision", token_id=token_id, deferrable=True)

    summary = HelmrStartSessionOperator(
        task_id="summary",
        task="release-summary",
        payload={"repository": "acme/web", "decision": decision.output, "work_seconds": 3},
        deferrable=True,
    )

    @task
    def publish(result: dict[str, Any]) -> dict[str, Any]:
        log.info("The agent says: %s", result)
        return result

    reviewer_decides(token_id, "{{ params.thinking_seconds }}")
    tell_reviewer(token_id) >> decision
    publish(cast("dict[str, Any]", summary.output))


example_approval_gate()
