"""Run a DAG whenever an agent has finished: a trigger watches an asset, and the DAG is scheduled on it.

Runs unchanged against the local control plane: ``helmr-local serve``, and a connection ``helmr_default`` to it. Start a
session of the task ``release-summary`` in any way, in a DAG or elsewhere, and see it run. Needs Airflow 3.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.providers.common.compat.sdk import dag, task
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from helmr_provider.hooks.helmr import HelmrHook
from helmr_provider.triggers.events import HelmrRunEndedEventTrigger

log = logging.getLogger(__name__)

schedule: Any = None
if AIRFLOW_V_3_0_PLUS:
    from airflow.sdk import Asset, AssetWatcher

    ended = HelmrRunEndedEventTrigger(helmr_task="release-summary", statuses=["succeeded"])
    schedule = [Asset("helmr_release_summaries", watchers=[AssetWatcher(name="ended_runs", trigger=ended)])]


@dag(schedule=schedule, tags=["helmr", "example"])
def example_asset_triggered() -> None:
    """Read the agent's result; the event itself contains only ids."""

    @task
    def publish(triggering_asset_events: Any = None) -> list[str]:
        payloads = [event.extra["payload"] for events in (triggering_asset_events or {}).values() for event in events]
        # An event may be delivered twice, with the same id.
        run_ids = sorted({payload["event_id"] for payload in payloads})
        for run_id in run_ids:
            log.info("The agent says: %s", HelmrHook().client.runs.retrieve(run_id).output)
        return run_ids

    publish()


example_asset_triggered()
