"""OpenLineage: which Helmr run was behind a run of an Airflow task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from helmr_provider.client import Task

FACET: Final = "helmr_run"


class RunLineage:
    """Tell OpenLineage about the run that an operator waited for, if OpenLineage's provider is installed.

    An agent reads and writes what it likes, which Airflow does not learn: there are no inputs and outputs.
    """

    task: str | Task[Any, Any]
    session_id: str | None
    run_id: str | None
    run_status: str | None
    run_page: str | None

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return the run's facet, or nothing.

        :param task_instance: that has ended with success.
        """
        del task_instance
        if self.session_id is None or self.run_id is None:
            return None
        try:
            from airflow.providers.openlineage.extractors import (  # type: ignore[import-not-found, unused-ignore]
                OperatorLineage,
            )

            from helmr_provider._common.openlineage_facets import HelmrRunFacet
        except ImportError:
            return None
        facet = HelmrRunFacet(
            taskId=str(self.task),
            sessionId=self.session_id,
            runId=self.run_id,
            status=self.run_status,
            consoleUrl=self.run_page,
        )
        return OperatorLineage(run_facets={FACET: facet})

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        """Return the run's facet, or nothing.

        :param task_instance: that has failed.
        """
        return self.get_openlineage_facets_on_complete(task_instance)
