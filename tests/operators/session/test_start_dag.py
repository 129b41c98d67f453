"""The operator and the sensor inside a DAG: templates, mapping, XComs, and how a DAG is stored."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowTaskTimeout, task

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS
from helmr_provider.operators.session import HelmrStartSessionOperator
from helmr_provider.sensors.run import HelmrRunSensor
from tests.support.serialized_dags import stored_form
from tests.support.session_tasks import LIVE, starts

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.local import LocalControlPlane


@pytest.mark.usefixtures("helmr_connection")
@pytest.mark.parametrize("deferrable", [False, True], ids=["on workers", "deferred"])
def test_a_dag_starts_sessions_and_uses_their_results(
    run_dag: Callable[..., Any], control_plane: LocalControlPlane, deferrable: bool
) -> None:
    seen: list[Any] = []
    with DAG(
        dag_id=f"sessions_{deferrable}",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        params={"who": "Ada"},
    ) as dag:
        greet = HelmrStartSessionOperator(
            task_id="greet",
            task="{{ 'ec' ~ 'ho' }}",
            payload={"hello": "{{ params.who }}", "n": 1, "nothing": None},
            priority="{{ 3 + 4 }}",
            deferrable=deferrable,
        )
        each = HelmrStartSessionOperator.partial(task_id="each", task="echo", deferrable=deferrable).expand(
            payload=[10, 20]
        )
        again = HelmrRunSensor(
            task_id="again",
            run_id="{{ ti.xcom_pull(task_ids='greet', key='run_id') }}",
            poke_interval=0.1,
            deferrable=deferrable,
        )

        @task
        def use(greeting: Any, same: Any, numbers: Any) -> None:
            seen.extend([greeting, same, list(numbers)])

        greet >> again
        use(greet.output, again.output, each.output)
    assert run_dag(dag).state == "success"
    assert seen == [{"hello": "Ada", "n": 1, "nothing": None}] * 2 + [[10, 20]]
    bodies = [entry.body for entry in starts(control_plane) if isinstance(entry.body, dict)]
    assert len(bodies) == 3
    assert [body.get("priority") for body in bodies].count(7) == 1
    assert {body["external_id"].rsplit(":", 3)[1] for body in bodies} == {"greet", "each"}


@pytest.mark.usefixtures("helmr_connection")
def test_text_stays_text_in_mapped_tasks_that_are_rendered_natively(
    run_dag: Callable[..., Any], control_plane: LocalControlPlane
) -> None:
    with DAG(
        dag_id="native", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), render_template_as_native_obj=True
    ) as dag:
        HelmrStartSessionOperator.partial(task_id="each", task="echo", tags=["{{ 2026 }}"]).expand(
            concurrency_key=["{{ 20260106 }}", "7"]
        )
    assert run_dag(dag).state == "success"
    bodies = [entry.body for entry in starts(control_plane) if isinstance(entry.body, dict)]
    assert sorted(body["concurrency_key"] for body in bodies) == ["20260106", "7"]
    assert [body["tags"] for body in bodies] == [["2026"], ["2026"]]


def test_an_operator_without_a_payload_stays_so_when_it_is_copied_and_stored() -> None:
    def parse() -> Any:
        with DAG(dag_id="stored", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
            HelmrStartSessionOperator(task_id="start", task="echo", retry={"maxAttempts": 2}, ttl=60)
        return dag

    original: Any = parse().get_task("start")
    assert copy.deepcopy(original).payload is original.payload
    # Airflow makes a new version of a DAG whose stored form differs from the last one's.
    assert stored_form(parse()) == stored_form(parse())
    assert "no payload" in str(stored_form(parse()))


@pytest.mark.usefixtures("helmr_connection")
def test_the_time_limit_of_a_deferred_task_holds_in_dag_test(
    run_dag: Callable[..., Any], control_plane: LocalControlPlane
) -> None:
    with DAG(dag_id="limited", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        HelmrStartSessionOperator(task_id="work", **LIVE, deferrable=True, timeout=2)
    if AIRFLOW_V_3_0_PLUS:
        assert run_dag(dag).state == "failed"
    else:
        # Airflow 2 raises the task's own error.
        with pytest.raises(AirflowTaskTimeout, match="It was cancelled"):
            run_dag(dag)
    assert len(starts(control_plane)) == 1
    assert [entry.operation for entry in control_plane.journal].count("cancelSession") == 1
