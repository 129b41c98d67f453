"""What the pages are made from: plain values, read by other modules. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from helmr_provider.airflow_ui.timeline import Timeline
    from helmr_provider.client.models.execs import Exec
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.sessions import SessionRun, SessionSnapshot
    from helmr_provider.client.models.tokens import Token

Problem: TypeAlias = Literal[
    "not_helmr",
    "nothing_yet",
    "ids_not_kept",
    "no_ids",
    "no_connection",
    "bad_connection",
    "off",
    "down",
    "refused",
    "unknown",
    "not_ours",
    "unverified",
    "error",
]
"""Why a page shows less than everything."""

UNFINISHED = frozenset(
    {None, "none", "scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule"}
)
"""States of a task instance in which it may not have stored anything yet."""

ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States that a task instance leaves only when a person clears it."""


@dataclass(frozen=True, slots=True)
class TaskKey:
    """Names a task instance.

    :param map_index: -1 when it is not mapped.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1


@dataclass(frozen=True, kw_only=True)
class StoredTask:
    """What Airflow's database holds of a task instance.

    :param helmr: whether its operator has a Helmr connection.
    :param state: of the task instance.
    :param epoch: of the ownership metadata: what lies between two clears.
    :param conn_id: id of its Helmr connection; ``None`` when it is not known.
    :param pushes_ids: whether it pushes XComs.
    :param pushed: the ids among its XComs. People with the right may edit these.
    :param named: the ids among its rendered fields, written by the DAG's author.
    :param links: addresses of its buttons, by label. People with the right may edit these.
    :param asks: whether it has a question under *Required Actions*.
    """

    key: TaskKey
    helmr: bool
    operator: str = ""
    state: str | None = None
    try_number: int = 0
    epoch: str = ""
    conn_id: str | None = None
    pushes_ids: bool = True
    pushed: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    asks: bool = False

    @property
    def ended(self) -> bool:
        """Whether the task instance changes only when a person clears it."""
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class Tail:
    """The end of an output.

    :param stream: stdout or stderr.
    :param text: its last lines.
    :param total: bytes that were written.
    :param cut: whether there was more.
    """

    stream: str
    text: str
    total: int
    cut: bool


@dataclass(frozen=True, kw_only=True)
class Content:
    """The state of a task instance's session, token or command, after its ownership was checked."""

    console_url: str
    session: SessionSnapshot | None = None
    run: RunSnapshot | None = None
    timeline: Timeline | None = None
    turns: tuple[SessionRun, ...] = ()
    token: Token | None = None
    exec: Exec | None = None
    exec_tails: tuple[Tail, ...] = ()
    status_only: bool = False

    @property
    def live(self) -> bool:
        """Whether anything in it may still change."""
        return (
            (self.run is not None and not self.run.is_terminal)
            or (self.token is not None and self.token.is_pending)
            or (self.exec is not None and not self.exec.is_terminal)
        )


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """Everything that the page of a task instance shows.

    :param problem: why it shows less than everything; ``None`` if it does not.
    :param note: what the problem is about: a connection's id, a text of the control plane.
    :param since: when the control plane was first found down.
    :param content: as read now, or last, when there is a problem.
    :param links: addresses of console pages, by label.
    """

    task: StoredTask
    problem: Problem | None = None
    note: str = ""
    since: datetime | None = None
    content: Content | None = None
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def refresh(self) -> int:
        """Seconds until the page asks again; 0 for never."""
        if self.problem in {"not_helmr", "off"}:
            return 0
        if self.problem == "down":
            return 10
        live = self.content is not None and self.content.live
        return 5 if live or not self.task.ended else 0


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One instance of a Helmr task in a DAG run.

    :param status: of its Helmr run while that is live; ``None`` otherwise.
    :param since: when its run was created.
    :param question: a question to a person without an answer yet.
    """

    task: StoredTask
    status: str | None = None
    attempt: int | None = None
    since: datetime | None = None
    question: str | None = None
    waits_for_person: bool = False
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DagRunView:
    """Everything that the page of a DAG run shows: its Helmr tasks in the order of their ids.

    :param problems: connections that could not be read, with the reason.
    :param left_out: task instances that were not read because there are too many.
    """

    dag_id: str
    run_id: str
    rows: tuple[RunRow, ...] = ()
    problems: Mapping[str, tuple[Problem, str]] = field(default_factory=dict)
    left_out: int = 0

    @property
    def refresh(self) -> int:
        """Seconds until the page asks again; 0 for never."""
        return 5 if any(not row.task.ended for row in self.rows) else 0


class MissingError(LookupError):
    """Airflow has no such task instance or DAG run."""


def string_ids(values: Mapping[str, Any], names: frozenset[str]) -> dict[str, str]:
    """Keep the ids among stored values.

    :param values: XComs or rendered fields.
    :param names: the ids to keep.
    """
    return {
        name: value
        for name, value in values.items()
        if name in names and isinstance(value, str) and value.strip() and len(value) <= 512
    }
