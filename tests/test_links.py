"""Where the buttons lead, and that they are there while the task runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, BaseOperator

from helmr_provider.links import (
    HelmrApprovalLink,
    HelmrRunLink,
    HelmrSessionLink,
    run_url,
    session_url,
    store_approval_link,
    store_links,
    token_url,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("console", ["https://helmr.example/prefix", "https://helmr.example/prefix/"])
def test_a_page_is_below_the_console_with_or_without_a_trailing_slash(console: str) -> None:
    assert session_url(console, "s-1") == "https://helmr.example/prefix/sessions/s-1"
    assert token_url(console, "t-1") == "https://helmr.example/prefix/tokens/t-1"
    assert run_url(console, "s-1", "r-1") == "https://helmr.example/prefix/sessions/s-1/runs/r-1"


def test_ids_cannot_lead_elsewhere() -> None:
    assert session_url("https://helmr.example", "../a?b#c d") == "https://helmr.example/sessions/..%2Fa%3Fb%23c%20d"


class StoresLinks(BaseOperator):  # type: ignore[misc,unused-ignore]
    operator_extra_links = (HelmrSessionLink(), HelmrRunLink())

    def execute(self, context: Any) -> dict[str, str]:
        store_links(context, console_url="https://helmr.example", session_id="s-1", run_id="r-1")
        ti = context["ti"]
        # What the interface shows while the task still runs, on Airflow 3.
        return {
            key: ti.xcom_pull(task_ids=ti.task_id, key=key) for key in ("_link_HelmrSessionLink", "_link_HelmrRunLink")
        }


class EndsBefore(StoresLinks):
    def execute(self, context: Any) -> None:  # type: ignore[override]
        pass


def test_the_buttons_work_while_the_task_runs_and_afterwards(run_dag: Callable[..., Any]) -> None:
    with DAG("links", schedule=None) as dag:
        StoresLinks(task_id="starts")
        EndsBefore(task_id="ends_before")
    run = run_dag(dag)
    assert run.state == "success"
    [ti] = [ti for ti in run.get_task_instances() if ti.task_id == "starts"]
    expected = {
        "_link_HelmrSessionLink": "https://helmr.example/sessions/s-1",
        "_link_HelmrRunLink": "https://helmr.example/sessions/s-1/runs/r-1",
    }
    assert ti.xcom_pull(task_ids="starts") == expected
    assert {key: ti.xcom_pull(task_ids="starts", key=key) for key in expected} == expected
    assert not any(ti.xcom_pull(task_ids="ends_before", key=key) for key in expected)
    shown = stored(dag).get_task("starts")
    assert shown.get_extra_links(ti, "Helmr session") == expected["_link_HelmrSessionLink"]
    assert shown.get_extra_links(ti, "Helmr run") == expected["_link_HelmrRunLink"]
    [early] = [ti for ti in run.get_task_instances() if ti.task_id == "ends_before"]
    assert not stored(dag).get_task("ends_before").get_extra_links(early, "Helmr run")


def stored(dag: Any) -> Any:
    """The DAG as the web server reads it: without our classes, unless provider info names them."""
    from airflow.serialization import serialized_objects

    # Its name before Airflow 3.2.
    name = "DagSerialization" if hasattr(serialized_objects, "DagSerialization") else "SerializedDAG"
    form: Any = getattr(serialized_objects, name)
    return form.from_dict(form.to_dict(dag))


def test_a_session_whose_run_is_not_known_yet_has_the_one_button() -> None:
    pushed: dict[str, str] = {}
    ti = type("TI", (), {"xcom_push": lambda self, key, value: pushed.update({key: value})})()
    store_links({"ti": ti}, console_url="https://helmr.example", session_id="s-1")
    assert pushed == {"_link_HelmrSessionLink": "https://helmr.example/sessions/s-1"}


class Asks(BaseOperator):  # type: ignore[misc,unused-ignore]
    operator_extra_links = (HelmrApprovalLink(),)

    def execute(self, context: Any) -> Any:
        store_approval_link(context, console_url="https://helmr.example", token_id="t-1")
        ti = context["ti"]
        return ti.xcom_pull(task_ids=ti.task_id, key="_link_HelmrApprovalLink")


def test_a_question_has_its_button_as_soon_as_it_is_asked(run_dag: Callable[..., Any]) -> None:
    with DAG("approval_link", schedule=None) as dag:
        Asks(task_id="asks")
    [ti] = run_dag(dag).get_task_instances()
    assert ti.xcom_pull(task_ids="asks") == "https://helmr.example/tokens/t-1"
    assert stored(dag).get_task("asks").get_extra_links(ti, "Helmr approval") == "https://helmr.example/tokens/t-1"
