"""Run operators as Airflow runs them, try by try, without its processes.

Every process start builds the operator anew and every trigger goes through its stored form, as in the real thing.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from helmr_provider._common.versions import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Operators refuse to be executed by anything but a task runner, which this is as far as they are concerned.
_safeguard: Any = import_module(
    "airflow.sdk.bases.operator" if AIRFLOW_V_3_0_PLUS else "airflow.models.baseoperator"
).ExecutorSafeguard
_safeguard.test_mode = True

both_ways = pytest.mark.parametrize("deferrable", [False, True], ids=["on a worker", "deferred"])


@dataclass
class TaskRun:
    """A task in one DAG run: its tries, retries and clears.

    :param make: builds the operator, as parsing the DAG file does.
    """

    make: Callable[[], Any]
    dag_id: str = "nightly"
    run_id: str = "manual__2026-11-23"
    map_index: int = -1
    retries: int = 1
    try_number: int = 0
    max_tries: int = 1
    dag_run: Any = field(default_factory=lambda: SimpleNamespace(start_date=datetime.now(UTC)))

    def start(self) -> Try:
        """Start the next try: the first, or a retry."""
        self.try_number += 1
        return Try(self)

    def clear(self) -> None:
        """Clear the task: the DAG run starts anew, and the retries count anew."""
        self.dag_run = SimpleNamespace(start_date=datetime.now(UTC))
        self.max_tries = self.try_number + self.retries

    @property
    def name(self) -> str:
        """External id of the sessions, without the generation."""
        return f"airflow:{self.dag_id}:{self.run_id}:{self.make().task_id}:{self.map_index}"


class Try:
    """One try of a task, on a worker and in the triggerer."""

    def __init__(self, of: TaskRun) -> None:
        self.of = of
        self.xcoms: dict[str, Any] = {}
        self.operator = of.make()
        self.ti = SimpleNamespace(
            dag_id=of.dag_id,
            run_id=of.run_id,
            task_id=self.operator.task_id,
            map_index=of.map_index,
            try_number=of.try_number,
            max_tries=of.max_tries,
            start_date=datetime.now(UTC),
            log_url=f"http://airflow.example/dags/{of.dag_id}",
            xcom_push=self._push,
            # Airflow 2 has no ids of task instances.
            **({"id": uuid.uuid4()} if AIRFLOW_V_3_0_PLUS else {}),
        )
        self.context: Any = {"ti": self.ti, "task_instance": self.ti, "dag_run": of.dag_run}

    def execute(self) -> Any:
        """Execute on a worker; a deferral is returned."""
        return self._call(lambda operator: operator.execute(self.context))

    def resume(self, deferral: TaskDeferred, event: Mapping[str, Any]) -> Any:
        """Resume on another worker with an event, as Airflow does."""
        kwargs = {**(deferral.kwargs or {}), "event": dict(event)}
        method = deferral.method_name
        return self._call(lambda operator: operator.resume_execution(method, kwargs, self.context), fresh=True)

    def lose_trigger(self, error: str = "Trigger failure") -> Any:
        """Resume on another worker after the trigger was lost: what was deferred is gone."""
        kwargs = {"error": error, "traceback": ["gone"]}
        return self._call(lambda operator: operator.resume_execution("__fail__", kwargs, self.context), fresh=True)

    def finish(self) -> Any:
        """Execute, and go through deferrals and events to the end."""
        result = self.execute()
        while isinstance(result, TaskDeferred):
            result = self.resume(result, fire(result))
        return result

    def _call(self, call: Callable[[Any], Any], *, fresh: bool = False) -> Any:
        if fresh:
            self.operator = self.of.make()
        if not AIRFLOW_V_3_0_PLUS:
            # A thread-local of Airflow 2, which is there only in the thread that has imported it.
            _safeguard._sentinel.callers = {}
        try:
            return call(self.operator)
        except TaskDeferred as deferral:
            return deferral

    def _push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))


def deferred(result: Any) -> TaskDeferred:
    """Return the deferral that a call has ended in."""
    assert isinstance(result, TaskDeferred)
    return result


def overdue(deferral: TaskDeferred) -> TaskDeferred:
    """Return a deferral whose time is over now.

    A short time limit instead could be over before the deferral, on a machine that is busy.
    """
    now = time.time()
    trigger: Any = deferral.trigger
    assert now < trigger.deadline, "the time was over by itself"
    trigger.deadline = now
    deferral.kwargs = {**(deferral.kwargs or {}), "deadline": now}
    return deferral


def stored(trigger: Any) -> Any:
    """Return the trigger as the triggerer builds it: from its class path and kwargs after a trip through JSON."""
    from airflow.providers.common.compat.module_loading import import_string

    path, kwargs = trigger.serialize()
    return import_string(path)(**json.loads(json.dumps(kwargs)))


def fire(deferral: TaskDeferred) -> dict[str, Any]:
    """Run the deferral's trigger to its event."""

    async def first() -> dict[str, Any]:
        events = [event.payload async for event in stored(deferral.trigger).run()]
        [event] = events
        return dict(event)

    return asyncio.run(first())
