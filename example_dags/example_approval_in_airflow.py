"""Ask a person under Airflow's *Required Actions*, and let an agent act on the answer.

Answer there, or in Helmr: the button *Helmr approval* of the waiting task leads to the question's token. The first
answer counts; if there is none within ten minutes, it is no.

Runs as it is against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, cast

from airflow.providers.common.compat.sdk import Param, dag, task

from helmr_provider.operators.approval import HelmrApprovalOperator
from helmr_provider.operators.session import HelmrStartSessionOperator

log = logging.getLogger(__name__)


@dag(
    schedule=None,
    # A retry continues the question or session of the try before.
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5)},
    tags=["helmr", "example"],
)
def example_approval_in_airflow() -> None:
    """Ask, start a session with the decision, use its result."""
    approval = HelmrApprovalOperator(
        task_id="approval",
        subject="Publish the notes of release 2.4?",
        body="An agent has collected **12 changes** of `acme/web` since release 2.3.",
        form={"channel": Param("stable", type="string", enum=["stable", "beta"], description="Where to publish")},
        timeout=timedelta(minutes=10),
        defaults="Reject",
    )

    summary = HelmrStartSessionOperator(
        task_id="summary",
        task="release-summary",
        payload={"repository": "acme/web", "decision": approval.output, "work_seconds": 1},
        deferrable=True,
    )

    @task
    def publish(result: dict[str, Any]) -> dict[str, Any]:
        log.info("The agent says: %s", result)
        return result

    publish(cast("dict[str, Any]", summary.output))


example_approval_in_airflow()
