"""Asset watchers in a real triggerer: what happens in Helmr triggers DAGs, also while no triggerer runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dev.airflow_api import AirflowApiError
from dev.stack import poll

if TYPE_CHECKING:
    from dev.stack import Stack
    from helmr_provider.client import HelmrClient
    from tests.airflow.conftest import Scenarios

# The first test also waits for Airflow to start.
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(240)]


def received(stack: Stack, dag_id: str) -> list[dict[str, Any]]:
    """Return the payloads that the runs of a DAG were triggered with."""
    found = stack.airflow.call("GET", f"/dags/{dag_id}/dagRuns", limit=100)["dag_runs"]
    done = [run for run in found if run["state"] == "success" and run["run_type"] == "asset_triggered"]
    assert "failed" not in {run["state"] for run in found}
    return [payload for run in done for payload in stack.airflow.xcom(dag_id, run["dag_run_id"], "received")]


def wait_until_received(stack: Stack, dag_id: str, event_ids: set[str]) -> list[dict[str, Any]]:
    """Wait until runs of a DAG were triggered by all these events."""

    def there() -> list[dict[str, Any]] | None:
        stack.check()
        payloads = received(stack, dag_id)
        return payloads if event_ids <= {payload["event_id"] for payload in payloads} else None

    return poll(there, seconds=90, waiting_for=f"{dag_id} to receive {len(event_ids)} events")


def stored_events(stack: Stack) -> list[dict[str, Any]]:
    """Return all events of assets; none while Airflow (3.3.2) fails to show one whose DAG run has not begun."""
    try:
        return list(stack.airflow.call("GET", "/assets/events", limit=100, order_by="-timestamp")["asset_events"])
    except AirflowApiError as error:
        if error.status != 500:
            raise
        return []


def wait_until_stored(stack: Stack, asset: str, event_ids: set[str]) -> None:
    """Wait until the asset was updated by all these; a run of a DAG may take several, or leave one to the next run."""

    def there() -> bool:
        stack.check()
        found = stored_events(stack)
        return event_ids <= {each["extra"]["payload"]["event_id"] for each in found if each["name"] == asset}

    poll(there, seconds=60, waiting_for=f"{len(event_ids)} events of {asset}")


def work(client: HelmrClient, external_id: str | None = None) -> str:
    """Have an agent write two records and succeed; returns the id of its run."""
    payload = {"decision": {"approved": True}, "work_seconds": 0}
    started = client.sessions.start("release-summary", payload=payload, external_id=external_id)
    assert client.runs.wait(started.run.id, timeout=30).is_success
    return started.run.id


def records(client: HelmrClient) -> set[str]:
    return {record.id for record in client.sessions.open(external_id="watched").output("progress").list()}


def test_records_and_ended_runs_trigger_dags_also_those_of_the_time_without_a_triggerer(
    stack: Stack, client: HelmrClient
) -> None:
    for dag_id in ("on_record", "on_ended_run"):
        stack.airflow.wait_for_dag(dag_id)
    triggerer = stack.programs["triggerer"]
    poll(
        lambda: triggerer.log.read_text(errors="replace").count("Watching ended runs on helmr_default") >= 2,
        seconds=60,
        waiting_for="the triggerer to watch for the example and for this test",
    )
    first_run, first_records = work(client, external_id="watched"), records(client)
    assert len(first_records) == 2
    wait_until_stored(stack, "watched_records", first_records)
    wait_until_received(stack, "on_ended_run", {first_run})
    poll(lambda: received(stack, "on_record"), seconds=60, waiting_for="on_record to receive a record")

    triggerer.kill()
    client.sessions.open(external_id="watched").output("progress").append({"step": "without a watcher"})
    second_run = work(client)
    triggerer.start()
    wait_until_stored(stack, "watched_records", records(client))
    payloads = wait_until_received(stack, "on_record", records(client))
    assert {payload["sequence"] for payload in payloads} == {1, 2, 3}
    payloads = wait_until_received(stack, "on_ended_run", {first_run, second_run})
    assert {payload["status"] for payload in payloads} == {"succeeded"}
    # The example waits for the same runs, with an asset of its own.
    wait_until_stored(stack, "helmr_release_summaries", {first_run, second_run})


def test_schedules_are_made_true_once(scenarios: Scenarios, client: HelmrClient) -> None:
    first = scenarios.begin("example_schedule_sync")
    first.succeeds()
    review, apply = first.xcom(task_id="review"), first.xcom(task_id="apply")
    assert review["counts"] == apply["counts"]
    assert (review["dry_run"], apply["dry_run"], sum(apply["counts"].values())) == (True, False, 3)
    assert "acme.heartbeat" in first.log("review")
    second = scenarios.begin("example_schedule_sync")
    second.succeeds()
    assert (second.xcom(task_id="apply")["changes"], len(second.xcom(task_id="apply")["unchanged"])) == ([], 3)
    keys = {str(schedule.deduplication_key) for schedule in client.schedules.list()}
    assert keys >= {"acme.release-summary.weekday", "acme.release-summary.month-end", "acme.heartbeat"}
