"""A reader that returns only when a test allows it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from helmr_provider.airflow_ui.views import TaskView
from tests.airflow_ui.helpers import stored

if TYPE_CHECKING:
    from helmr_provider.airflow_ui.views import TaskKey


class GatedReader:
    """Reads when the gate is open, and counts."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.reads: list[TaskKey] = []
        self.inside = 0
        self.most_inside = 0
        self._lock = threading.Lock()

    def task(self, key: TaskKey) -> TaskView:
        with self._lock:
            self.reads.append(key)
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        assert self.gate.wait(30)
        with self._lock:
            self.inside -= 1
        return TaskView(task=stored(key))
