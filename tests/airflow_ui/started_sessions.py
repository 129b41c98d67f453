"""Sessions that a task has started, with their IDs in Airflow's storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.airflow_ui.helpers import KEY, owned_by, stored
from tests.support.local.polling import until

if TYPE_CHECKING:
    from helmr_provider.client import HelmrClient
    from tests.airflow_ui.helpers import Storage


def start(client: HelmrClient, storage: Storage, task: str, payload: Any = None, key: Any = KEY, **more: Any) -> Any:
    """Start a session as the task would, and store its ids as the task would."""
    started = client.sessions.start(task, payload or {}, metadata=owned_by(key), **more)
    storage.put(stored(key, pushed={"session_id": started.session.id, "run_id": started.run.id}))
    return started


def waiting(client: HelmrClient, storage: Storage) -> Any:
    token = client.tokens.create(timeout="1h")
    started = start(client, storage, "release-summary", {"token_id": token.id, "work_seconds": 0})
    until(lambda: client.runs.retrieve(started.run.id).status == "waiting")
    return token, started
