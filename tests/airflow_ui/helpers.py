"""What the tests of the tab share: stored tasks, a page's structure, and the application with made-up storage."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Connection

from helmr_provider._sessions.identity import OWNERSHIP
from helmr_provider.airflow_ui.views import MissingError, StoredTask, TaskKey

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = TaskKey("reports", "manual__2026-11-28T00:00:00+00:00", "work", -1)


def stored(key: TaskKey = KEY, **members: Any) -> StoredTask:
    """A Helmr task that is deferred."""
    members = {"helmr": True, "state": "deferred", "try_number": 1, "conn_id": "helmr_default", **members}
    return StoredTask(key=key, **members)


def owned_by(key: TaskKey = KEY) -> dict[str, Any]:
    """Ownership metadata that name a task instance."""
    names = {"dag_id": key.dag_id, "run_id": key.run_id, "task_id": key.task_id, "map_index": key.map_index}
    return {OWNERSHIP: {"v": 1, "owner": "some-try", "epoch": "some-epoch", "try_number": 1, "url": None, **names}}


@dataclass
class Storage:
    """What Airflow's database would hold."""

    tasks: dict[TaskKey, StoredTask] = field(default_factory=dict)
    connections: dict[str, Connection] = field(default_factory=dict)
    reads: int = 0
    fetches: int = 0

    def put(self, task: StoredTask) -> None:
        self.tasks[task.key] = task

    def change(self, key: TaskKey = KEY, **members: Any) -> None:
        self.tasks[key] = replace(self.tasks[key], **members)

    def read_task(self, key: TaskKey) -> StoredTask:
        self.reads += 1
        try:
            return self.tasks[key]
        except KeyError:
            raise MissingError from None

    def read_run(self, dag_id: str, run_id: str) -> tuple[list[StoredTask], int]:
        found = [task for key, task in self.tasks.items() if (key.dag_id, key.run_id) == (dag_id, run_id)]
        if not found:
            raise MissingError
        return [task for task in found if task.helmr], 0

    def connect(
        self, url: str, api_key: str, extra: Mapping[str, Any] | None = None, conn_id: str = "helmr_default"
    ) -> None:
        import json

        self.connections[conn_id] = Connection(
            conn_id=conn_id, conn_type="helmr", host=url, password=api_key, extra=json.dumps(dict(extra or {}))
        )

    def fetch(self, conn_id: str, dag_id: str) -> Connection | None:
        self.fetches += 1
        return self.connections.get(conn_id)


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class _Structure(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, ...]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(("/" + tag,))

    def handle_comment(self, data: str) -> None:
        self.parts.append(("!--",))

    def handle_decl(self, decl: str) -> None:
        self.parts.append(("!",))

    def handle_pi(self, data: str) -> None:
        self.parts.append(("?",))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def structure(html: str) -> list[tuple[str, ...]]:
    """The tags of a page with the names of their attributes, without any text."""
    parser = _Structure()
    parser.feed(html)
    parser.close()
    return parser.parts


def text_of(html: str) -> str:
    """The text of a page, each white space one blank."""
    parser = _Structure()
    parser.feed(html)
    parser.close()
    return " ".join(" ".join(parser.text).split())
