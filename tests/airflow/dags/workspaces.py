"""DAGs whose commands run in workspaces; they wait for a file that the test makes, named by the token of the run."""

from __future__ import annotations

import os
import signal
import tempfile
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import dag

from helmr_provider.operators.workspace import (
    HelmrCreateWorkspaceOperator,
    HelmrDeleteWorkspaceOperator,
    HelmrExecOperator,
)

WORKSPACE = "{{ ti.xcom_pull('create') }}"
GATE = "while [ ! -e \"$GATES/{{ dag_run.conf['token_id'] }}\" ]; do sleep 0.05; done"
COMMAND = f"echo begun | tr a-z A-Z; echo oops | tr a-z A-Z >&2; {GATE}; echo ended | tr a-z A-Z"
ENVIRONMENT = {"GATES": tempfile.gettempdir()}
# As in scenarios.py: Airflow itself may lose a task that resumes.
RETRIED: dict[str, Any] = {"retries": 3, "retry_delay": timedelta(0)}


class DiesBeforeItDefers(HelmrExecOperator):
    """On its first try, lose the worker process between the start of the command and the deferral."""

    def defer(self, **kwargs: Any) -> NoReturn:
        from airflow.sdk import get_current_context

        if get_current_context()["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        super().defer(**kwargs)


def in_a_workspace(work: HelmrExecOperator) -> None:
    """Put a workspace around a task."""
    create = HelmrCreateWorkspaceOperator(task_id="create", sandbox_id="local")
    delete = HelmrDeleteWorkspaceOperator(task_id="delete", workspace_id=WORKSPACE, deferrable=True, **RETRIED)
    create >> work >> delete.as_teardown(setups=create)


@dag(schedule=None)
def workspace_exec() -> None:
    """Run a command that ends when the test says so."""
    in_a_workspace(
        HelmrExecOperator(
            task_id="work",
            workspace_id=WORKSPACE,
            command=COMMAND,
            env=ENVIRONMENT,
            result="stdout",
            deferrable=True,
            **RETRIED,
        )
    )


@dag(schedule=None)
def workspace_exec_fails() -> None:
    """Run a command that leaves something behind and fails."""
    command = "sleep 3600 & echo no space left >&2; exit 7"
    in_a_workspace(HelmrExecOperator(task_id="work", workspace_id=WORKSPACE, command=command, deferrable=True))


@dag(schedule=None)
def workspace_worker_killed() -> None:
    """Start a command, and die before deferring."""
    in_a_workspace(
        DiesBeforeItDefers(
            task_id="work",
            workspace_id=WORKSPACE,
            command=COMMAND,
            env=ENVIRONMENT,
            deferrable=True,
            retries=1,
            retry_delay=timedelta(0),
        )
    )


workspace_exec()
workspace_exec_fails()
workspace_worker_killed()
