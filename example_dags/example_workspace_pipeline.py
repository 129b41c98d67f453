"""Run commands in a workspace of the DAG run: check, build, read the report, and clean up.

Runs unchanged against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from airflow.providers.common.compat.sdk import Param, dag, task

from helmr_provider.operators.workspace import (
    HelmrCreateWorkspaceOperator,
    HelmrDeleteWorkspaceOperator,
    HelmrExecOperator,
    HelmrReadFileOperator,
    HelmrStopWorkspaceOperator,
)

log = logging.getLogger(__name__)

COUNT = """
mkdir -p report
lines=$(grep -c '' sources.txt)
echo "counted $lines lines"
printf '{"lines": %d, "words": %d}' "$lines" "$(wc -w < sources.txt)" > report/summary.json
"""


@dag(
    schedule=None,
    params={"sandbox": Param("local", type="string", description="A deployed sandbox.")},
    tags=["helmr", "example"],
)
def example_workspace_pipeline() -> None:
    """Create a workspace, run two steps in it and read their files; the teardown always runs."""
    create = HelmrCreateWorkspaceOperator(task_id="create", sandbox_id="{{ params.sandbox }}")
    workspace_id = cast("str", create.output)  # what Airflow makes of it when the DAG runs

    fetch = HelmrExecOperator(
        task_id="fetch",
        workspace_id=workspace_id,
        command="cat > sources.txt",
        stdin="to be\nor not to be",
        deferrable=True,
    )
    count = HelmrExecOperator(task_id="count", workspace_id=workspace_id, command=COUNT, deferrable=True)
    # Files are read from captured versions.
    capture = HelmrStopWorkspaceOperator(task_id="capture", workspace_id=workspace_id, deferrable=True)
    summary = HelmrReadFileOperator(
        task_id="summary", workspace_id=workspace_id, path="report/summary.json", encoding="json"
    )

    @task
    def use(summary: dict[str, Any]) -> int:
        log.info("The sources have %d lines and %d words.", summary["lines"], summary["words"])
        return int(summary["words"])

    delete = HelmrDeleteWorkspaceOperator(task_id="delete", workspace_id=workspace_id)
    create >> fetch >> count >> capture >> summary >> delete.as_teardown(setups=create)
    use(cast("dict[str, Any]", summary.output))


example_workspace_pipeline()
