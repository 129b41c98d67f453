"""DAGs that run on events in Helmr; each returns the payloads."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, task

from helmr_provider.triggers.events import HelmrRunEndedEventTrigger, HelmrSessionOutputEventTrigger

records = HelmrSessionOutputEventTrigger(external_id="watched", stream="progress", start="earliest")
runs = HelmrRunEndedEventTrigger(helmr_task="release-summary")
RECORDS = Asset("watched_records", watchers=[AssetWatcher(name="records", trigger=records)])
RUNS = Asset("watched_runs", watchers=[AssetWatcher(name="runs", trigger=runs)])


@task
def received(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
    """Return the payloads of the events that have triggered this run."""
    return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]


@dag(schedule=[RECORDS])
def on_record() -> None:
    """Run when the watched session has written a record."""
    received()


@dag(schedule=[RUNS])
def on_ended_run() -> None:
    """Run when a run of the watched task has succeeded."""
    received()


on_record()
on_ended_run()
