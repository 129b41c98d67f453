"""Parameters that were renamed: the former name works, with a warning that names the DAG file."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.exceptions import AirflowProviderDeprecationWarning

from helmr_provider.operators.schedule import HelmrSyncSchedulesOperator
from helmr_provider.operators.session import HelmrCleanupSessionsOperator


@pytest.mark.parametrize(
    ("operator", "options"),
    [(HelmrSyncSchedulesOperator, {"schedules": []}), (HelmrCleanupSessionsOperator, {"older_than": "7d"})],
)
@pytest.mark.parametrize("value", [True, False, "{{ params.preview }}"])
def test_dry_run_is_preview_only(operator: Any, options: dict[str, Any], value: bool | str) -> None:
    with pytest.warns(AirflowProviderDeprecationWarning, match="dry_run is now called preview_only") as warned:
        assert operator(task_id="t", dry_run=value, **options).preview_only == value
    assert warned[0].filename == __file__
