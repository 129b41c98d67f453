"""Import paths that DAG files and stored tasks of earlier releases name; none of them ever goes away."""

from __future__ import annotations

import importlib

import pytest

PATHS = {
    "helmr_provider.common_ai.managed_agent": ["HelmrManagedAgentHook"],
    "helmr_provider.common_ai.sandbox": ["HelmrSandboxBackend"],
    "helmr_provider.decorators": ["helmr_session_task"],
    "helmr_provider.get_provider_info": ["get_provider_info"],
    "helmr_provider.hooks.helmr": ["HelmrHook"],
    "helmr_provider.links": [
        "HelmrApprovalLink",
        "HelmrRunLink",
        "HelmrSessionLink",
        "HelmrTokenLink",
        "HelmrWorkspaceLink",
    ],
    "helmr_provider.notifications": ["HelmrNotifier"],
    "helmr_provider.operators.approval": ["HelmrApprovalOperator"],
    "helmr_provider.operators.public_token": ["HelmrCreatePublicTokenOperator"],
    "helmr_provider.operators.schedule": [
        "HelmrActivateScheduleOperator",
        "HelmrCreateScheduleOperator",
        "HelmrDeactivateScheduleOperator",
        "HelmrDeleteScheduleOperator",
        "HelmrSyncSchedulesOperator",
    ],
    "helmr_provider.operators.schedule_sync": ["HelmrSyncSchedulesOperator"],
    "helmr_provider.operators.session": [
        "HelmrCancelRunOperator",
        "HelmrCancelSessionOperator",
        "HelmrCleanupSessionsOperator",
        "HelmrCloseSessionOperator",
        "HelmrReadOutputOperator",
        "HelmrSendInputOperator",
        "HelmrStartSessionOperator",
    ],
    "helmr_provider.operators.session_cleanup": ["HelmrCleanupSessionsOperator"],
    "helmr_provider.operators.session_end": [
        "HelmrCancelRunOperator",
        "HelmrCancelSessionOperator",
        "HelmrCloseSessionOperator",
    ],
    "helmr_provider.operators.session_input": ["HelmrReadOutputOperator", "HelmrSendInputOperator"],
    "helmr_provider.operators.token": [
        "HelmrCancelTokenOperator",
        "HelmrCompleteTokenOperator",
        "HelmrCreateTokenOperator",
    ],
    "helmr_provider.operators.workspace": [
        "HelmrCreateWorkspaceOperator",
        "HelmrDeleteWorkspaceOperator",
        "HelmrExecOperator",
        "HelmrListFilesOperator",
        "HelmrReadFileOperator",
        "HelmrStopWorkspaceOperator",
    ],
    "helmr_provider.operators.workspace_exec": ["HelmrExecOperator"],
    "helmr_provider.operators.workspace_files": ["HelmrListFilesOperator", "HelmrReadFileOperator"],
    "helmr_provider.schedules": ["HelmrSchedule"],
    "helmr_provider.sensors.run": ["HelmrRunSensor"],
    "helmr_provider.sensors.session": ["HelmrSessionOutputSensor", "HelmrSessionSensor"],
    "helmr_provider.sensors.token": ["HelmrTokenSensor"],
    "helmr_provider.sensors.workspace": ["HelmrWorkspaceSensor"],
    "helmr_provider.triggers.approval": ["HelmrApprovalTrigger"],
    "helmr_provider.triggers.ended_runs": ["EndedRuns"],
    "helmr_provider.triggers.events": ["HelmrRunEndedEventTrigger", "HelmrSessionOutputEventTrigger"],
    "helmr_provider.triggers.run": ["HelmrRunTrigger"],
    "helmr_provider.triggers.run_output": ["forward_run_logs"],
    "helmr_provider.triggers.session": [
        "HelmrRunReleaseTrigger",
        "HelmrSessionOutputTrigger",
        "HelmrSessionTrigger",
        "HelmrTurnTrigger",
    ],
    "helmr_provider.triggers.token": ["HelmrTokenTrigger"],
    "helmr_provider.triggers.workspace": ["HelmrExecTrigger", "HelmrWorkspaceTrigger"],
}


@pytest.mark.parametrize("path", PATHS)
def test_names_of_earlier_releases_import_from_where_they_were(path: str) -> None:
    if path.startswith("helmr_provider.common_ai"):
        pytest.importorskip("airflow.providers.common.ai")
    module = importlib.import_module(path)
    assert [name for name in PATHS[path] if not hasattr(module, name)] == []
