"""The facets for OpenLineage, with its provider and without it.

Where the provider is not installed, stand-ins with its interface take its place: what is handed over is the same.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from airflow.providers.common.compat.sdk import AirflowException

from tests.support.session_tasks import a_task
from tests.support.task_attempts import both_ways, deferred, fire

if TYPE_CHECKING:
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")

INSTALLED = find_spec("openlineage") is not None


@attrs.define
class RunFacet:
    """As of openlineage.client.facet_v2."""

    _producer: str = attrs.field(default="", kw_only=True)
    _schemaURL: str = attrs.field(default="", init=False)  # noqa: N815


@attrs.define
class OperatorLineage:
    """As of the provider's extractors."""

    inputs: list[Any] = attrs.Factory(list)
    outputs: list[Any] = attrs.Factory(list)
    run_facets: dict[str, Any] = attrs.Factory(dict)
    job_facets: dict[str, Any] = attrs.Factory(dict)


@pytest.fixture
def openlineage(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenLineage's provider, or stand-ins for what is used of it."""
    if INSTALLED:
        return
    interface: dict[str, dict[str, Any]] = {
        "openlineage": {},
        "openlineage.client": {},
        "openlineage.client.facet_v2": {"RunFacet": RunFacet},
        "airflow.providers.openlineage": {},
        "airflow.providers.openlineage.extractors": {"OperatorLineage": OperatorLineage},
    }
    for name, members in interface.items():
        module = ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "helmr_provider._common.openlineage_facets", raising=False)


def facet_of(lineage: Any) -> dict[str, Any]:
    assert lineage.inputs == []
    assert lineage.outputs == []
    assert lineage.job_facets == {}
    [(name, facet)] = lineage.run_facets.items()
    assert name == "helmr_run"
    return {name: value for name, value in attrs.asdict(facet).items() if not name.startswith("_")}


@pytest.mark.usefixtures("openlineage")
@both_ways
def test_the_run_that_a_task_waited_for_is_reported(control_plane: LocalControlPlane, deferrable: bool) -> None:
    attempt = a_task(payload=1, deferrable=deferrable).start()
    attempt.finish()
    session_id, run_id = attempt.xcoms["session_id"], attempt.xcoms["run_id"]
    assert facet_of(attempt.operator.get_openlineage_facets_on_complete(attempt.ti)) == {
        "taskId": "echo",
        "sessionId": session_id,
        "runId": run_id,
        "status": "succeeded",
        "consoleUrl": f"{control_plane.url}/sessions/{session_id}/runs/{run_id}",
    }


@pytest.mark.usefixtures("openlineage")
def test_the_run_that_failed_a_task_is_reported() -> None:
    attempt = a_task(task="fail", deferrable=True).start()
    deferral = deferred(attempt.execute())
    with pytest.raises(AirflowException):
        attempt.resume(deferral, fire(deferral))
    facet = facet_of(attempt.operator.get_openlineage_facets_on_failure(attempt.ti))
    assert (facet["runId"], facet["status"]) == (attempt.xcoms["run_id"], "failed")


@pytest.mark.usefixtures("openlineage")
def test_a_run_that_was_not_awaited_has_no_status() -> None:
    attempt = a_task(wait_for_completion=False).start()
    attempt.execute()
    assert facet_of(attempt.operator.get_openlineage_facets_on_complete(attempt.ti))["status"] is None


@pytest.mark.usefixtures("openlineage")
def test_a_task_that_started_nothing_reports_nothing() -> None:
    attempt = a_task(task="no such task").start()
    with pytest.raises(AirflowException):
        attempt.execute()
    assert attempt.operator.get_openlineage_facets_on_failure(attempt.ti) is None


def test_without_the_provider_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openlineage", "airflow.providers.openlineage", "airflow.providers.openlineage.extractors"):
        monkeypatch.setitem(sys.modules, name, None)
    attempt = a_task(payload=1).start()
    attempt.finish()
    assert attempt.operator.get_openlineage_facets_on_complete(attempt.ti) is None


def test_naming_an_operator_does_not_import_openlineage() -> None:
    program = (
        "import sys, helmr_provider.operators.session; print(sorted(m for m in sys.modules if 'lineage_facets' in m))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
