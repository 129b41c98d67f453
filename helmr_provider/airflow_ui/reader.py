"""Read what a page shows: from Airflow's database, then from the control plane. All of it blocks.

A page costs two small requests while its run is live: the run, and its events behind a cursor. A run that has ended is
read once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from helmr_provider._approvals.question import Question
from helmr_provider._workspaces.ownership import MARK
from helmr_provider.airflow_ui.connections import ConnectionProblemError
from helmr_provider.airflow_ui.ownership import is_marked, may_show_run, may_show_session, may_show_token, names_task
from helmr_provider.airflow_ui.tails import tail_of_exec, tails_of_run
from helmr_provider.airflow_ui.timeline import Timeline
from helmr_provider.airflow_ui.views import UNFINISHED, Content, DagRunView, RunRow, TaskView
from helmr_provider.client.errors import (
    HelmrApiError,
    HelmrAuthError,
    HelmrConnectionError,
    HelmrError,
    HelmrNotFoundError,
    HelmrPermissionError,
)
from helmr_provider.links import run_url, session_url, token_url, workspace_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from helmr_provider.airflow_ui.connections import Connected, Connections
    from helmr_provider.airflow_ui.views import Problem, StoredTask, Tail, TaskKey
    from helmr_provider.client import HelmrClient
    from helmr_provider.client.models.execs import Exec
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.sessions import SessionRun, SessionSnapshot
    from helmr_provider.client.models.tokens import Token

T = TypeVar("T")

MAX_REMEMBERED: Final = 200

_NEWEST: Final = 200
_EVENTS_AT_ONCE: Final = 1000
# A session changes rarely: its status, its turns, who owns it.
_SESSION_SECONDS: Final = 15.0


class _NotOursError(Exception):
    """What an id leads to carries no metadata that name this task."""


@dataclass
class _Memory:
    """The records read for one task instance, as long as its ids stay the same."""

    ids: tuple[object, ...]
    session: SessionSnapshot | None = None
    session_read: float = 0.0
    turns: tuple[SessionRun, ...] = ()
    run: RunSnapshot | None = None
    timeline: Timeline = field(default_factory=Timeline)
    all_read: bool = False
    token: Token | None = None
    exec: Exec | None = None
    exec_is_ours: bool = False
    exec_tails: tuple[Tail, ...] = ()
    content: Content | None = None


class Reader:
    """Read pages' contents; calls for one task instance must not overlap.

    :param connections: hands out clients.
    :param read_task: reads a task instance from Airflow's database.
    :param read_run: reads the Helmr tasks of a DAG run from it, and counts those left out.
    :param clock: seconds, never going back.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        read_task: Callable[[TaskKey], StoredTask],
        read_run: Callable[[str, str], tuple[list[StoredTask], int]],
        clock: Callable[[], float],
    ) -> None:
        self._connections = connections
        self._read_task = read_task
        self._read_run = read_run
        self._clock = clock
        self._lock = threading.Lock()
        self._memories: OrderedDict[TaskKey, _Memory] = OrderedDict()

    def task(self, key: TaskKey) -> TaskView:
        """Read a task instance and what belongs to it in Helmr.

        :param key: names it.
        :raises MissingError: Airflow has no such task instance.
        """
        task = self._read_task(key)
        if not task.helmr:
            return TaskView(task=task, problem="not_helmr")
        links = {f"Helmr {name}": url for name, url in task.links.items()}
        if not (task.pushed or task.named):
            return TaskView(task=task, problem=_why_nothing(task), links=links)
        if task.conn_id is None:
            return TaskView(task=task, problem="no_connection", links=links)
        return self._helmr_task(task, task.conn_id, links)

    def _helmr_task(self, task: StoredTask, conn_id: str, links: dict[str, str]) -> TaskView:
        memory = self._memory(task)
        try:
            connected = self._connections.get(conn_id, task.key.dag_id)
            links |= _links(connected.settings.console_url, task)
            memory.content = self._guarded(connected, lambda: self._content(connected, task, memory))
        except ConnectionProblemError as problem:
            return TaskView(
                task=task,
                problem=problem.problem,
                note=problem.note,
                since=problem.since,
                content=memory.content if problem.problem in {"down", "error"} else None,
                links={} if problem.problem == "off" else links,
            )
        except _NotOursError:
            memory.content = None
            return TaskView(task=task, problem="not_ours", links=links)
        if memory.content is None:
            return TaskView(task=task, problem="unverified" if task.ended else "nothing_yet", links=links)
        return TaskView(task=task, content=memory.content, links=links)

    def log(self, view: TaskView) -> tuple[Tail, ...] | None:
        """Read the end of the output that belongs to a page; ``None`` if it may not be shown or cannot be read.

        :param view: as returned by :meth:`task`, so that the ownership was checked.
        """
        content, conn_id = view.content, view.task.conn_id
        if content is None or content.status_only or conn_id is None or view.problem is not None:
            return None
        run, command = content.run, content.exec

        def read(client: HelmrClient) -> tuple[Tail, ...]:
            if command is not None:
                return tail_of_exec(client, command)
            return () if run is None else tails_of_run(client.runs.logs.retrieve(run.id))

        try:
            connected = self._connections.get(conn_id, view.task.key.dag_id)
            return self._guarded(connected, lambda: read(connected.client))
        except ConnectionProblemError:
            return None

    def dag_run(self, dag_id: str, run_id: str) -> DagRunView:
        """Read the Helmr tasks of a DAG run: two lists for each connection, for any number of tasks.

        :param dag_id: the DAG.
        :param run_id: the DAG run.
        :raises MissingError: Airflow has no such DAG run.
        """
        tasks, left_out = self._read_run(dag_id, run_id)
        problems: dict[str, tuple[Problem, str]] = {}
        lists: dict[str, _Lists] = {}
        for conn_id in sorted({task.conn_id for task in tasks if task.conn_id is not None}):
            ours = [task for task in tasks if task.conn_id == conn_id and (task.pushed or task.named)]
            try:
                connected = self._connections.get(conn_id, dag_id)
                unfinished = [task for task in ours if not task.ended]
                lists[conn_id] = _Lists(connected.settings.console_url)
                if unfinished:
                    lists[conn_id] = self._guarded(connected, lambda c=connected, o=unfinished: _lists(c, o))  # type: ignore[misc]
            except ConnectionProblemError as problem:
                problems[conn_id] = (problem.problem, problem.note)
        off = {conn_id for conn_id, (problem, _) in problems.items() if problem == "off"}
        rows = tuple(_row(task, lists.get(task.conn_id or "")) for task in tasks if task.conn_id not in off)
        return DagRunView(dag_id=dag_id, run_id=run_id, rows=rows, problems=problems, left_out=left_out)

    def _memory(self, task: StoredTask) -> _Memory:
        ids = (task.conn_id, *sorted(task.pushed.items()), *sorted(task.named.items()))
        with self._lock:
            memory = self._memories.get(task.key)
            if memory is None or memory.ids != ids:
                memory = self._memories[task.key] = _Memory(ids)
            self._memories.move_to_end(task.key)
            while len(self._memories) > MAX_REMEMBERED:
                self._memories.popitem(last=False)
            return memory

    def _guarded(self, connected: Connected, ask: Callable[[], T]) -> T:
        """Ask the control plane, unless it is known to be down; put what went wrong into a page's words."""
        connections = self._connections
        connections.check(connected)
        try:
            answer = ask()
        except HelmrConnectionError:
            raise connections.failed(connected) from None
        except HelmrApiError as error:
            if error.retryable:
                raise connections.failed(connected) from None
            connections.answered(connected)
            if isinstance(error, HelmrAuthError | HelmrPermissionError):
                connections.refused(connected)
                raise ConnectionProblemError("refused", str(error)) from None
            if isinstance(error, HelmrNotFoundError):
                raise ConnectionProblemError("unknown") from None
            raise ConnectionProblemError("error", str(error)) from None
        except HelmrError as error:
            connections.answered(connected)
            raise ConnectionProblemError("error", str(error)) from None
        except BaseException:
            connections.answered(connected)
            raise
        connections.answered(connected)
        return answer

    def _content(self, connected: Connected, task: StoredTask, memory: _Memory) -> Content | None:
        client, settings = connected.client, connected.settings
        ids = {**task.named, **task.pushed}
        if {"session_id", "external_id", "run_id"} & ids.keys():
            self._read_session(client, task, ids, memory)
        if "token_id" in ids and (memory.token is None or memory.token.is_pending):
            token = client.tokens.retrieve(ids["token_id"])
            if not may_show_token(task, token):
                raise _NotOursError
            memory.token = token
        if {"exec_id", "workspace_id"} <= ids.keys():
            self._read_exec(client, task, ids, memory, settings.session_prefix)
        if memory.run is None and memory.session is None and memory.token is None and memory.exec is None:
            return None
        return Content(
            console_url=settings.console_url,
            session=memory.session,
            run=memory.run,
            timeline=memory.timeline.snapshot() if memory.run is not None else None,
            turns=memory.turns,
            token=memory.token,
            exec=memory.exec,
            exec_tails=memory.exec_tails,
            status_only=settings.airflow_tab == "status",
        )

    def _read_session(self, client: HelmrClient, task: StoredTask, ids: Mapping[str, str], memory: _Memory) -> None:
        before = memory.run
        if "run_id" in ids and (before is None or not before.is_terminal):
            memory.run = client.runs.retrieve(ids["run_id"])
        moved = memory.run is not None and (before is None or before.status != memory.run.status)
        if memory.session is None or moved or self._clock() - memory.session_read >= _SESSION_SECONDS:
            self._read_session_itself(client, ids, memory)
        session = memory.session
        if session is None or not may_show_session(task, session, memory.run):
            memory.session = memory.run = None
            memory.turns = ()
            raise _NotOursError
        if "run_id" not in ids and session.current_run_id is not None:
            if memory.run is None or memory.run.id != session.current_run_id:
                memory.timeline, memory.all_read = Timeline(), False
                memory.run = client.runs.retrieve(session.current_run_id)
            elif not memory.run.is_terminal:
                memory.run = client.runs.retrieve(session.current_run_id)
            if memory.run.session_id != session.id:
                raise _NotOursError
        if memory.run is not None and not memory.all_read:
            records = client.runs.events.records(memory.run.id, cursor=memory.timeline.cursor, page_size=200)
            read = memory.timeline.add(islice(records, _EVENTS_AT_ONCE))
            memory.all_read = memory.run.is_terminal and read < _EVENTS_AT_ONCE

    def _read_session_itself(self, client: HelmrClient, ids: Mapping[str, str], memory: _Memory) -> None:
        session_id = ids.get("session_id") or (memory.run.session_id if memory.run is not None else None)
        if session_id is not None:
            memory.session = client.sessions.retrieve(session_id)
        else:
            memory.session = client.sessions.retrieve(external_id=ids["external_id"])
        memory.turns = _optional(lambda: tuple(client.sessions.open(memory.session.id).runs()), ())  # type: ignore[union-attr]
        memory.session_read = self._clock()

    def _read_exec(
        self, client: HelmrClient, task: StoredTask, ids: Mapping[str, str], memory: _Memory, prefix: str
    ) -> None:
        if memory.exec is not None and memory.exec.is_terminal:
            return
        command = client.workspaces.open(ids["workspace_id"]).execs.open(ids["exec_id"]).retrieve()
        if not memory.exec_is_ours and not is_marked(task, command, prefix=prefix, mark=MARK):
            # A clear of the DAG run changes the mark of tasks that were not cleared; the workspace still names the DAG.
            workspace = client.workspaces.retrieve(command.workspace_id)
            if command.workspace_id != ids["workspace_id"] or not names_task(workspace.metadata, task, dag_only=True):
                raise _NotOursError
        memory.exec, memory.exec_is_ours = command, True
        if command.is_terminal:
            memory.exec_tails = _optional(lambda: tail_of_exec(client, command, lines=20), ())


@dataclass(frozen=True)
class _Lists:
    """What a connection's lists say.

    :param runs: live runs by id.
    :param complete: whether a run that is not among them has ended.
    :param tokens: pending tokens by id.
    """

    console_url: str
    runs: Mapping[str, RunSnapshot] = field(default_factory=dict)
    complete: bool = True
    tokens: Mapping[str, Token] = field(default_factory=dict)


def _lists(connected: Connected, tasks: Iterable[StoredTask]) -> _Lists:
    client = connected.client
    # Live runs only: the list of all carries the outputs of those that have ended.
    runs = client.runs.list(limit=_NEWEST)
    tokens: tuple[Token, ...] = ()
    if any("token_id" in task.pushed or "token_id" in task.named for task in tasks):
        tokens = _optional(lambda: client.tokens.list_page(status="pending", limit=500).tokens, ())
    return _Lists(
        connected.settings.console_url,
        {run.id: run for run in runs},
        len(runs) < _NEWEST,
        {token.id: token for token in tokens},
    )


def _row(task: StoredTask, lists: _Lists | None) -> RunRow:
    links = {f"Helmr {name}": url for name, url in task.links.items()}
    if lists is None:
        return RunRow(task=task, links=links)
    ids = {**task.named, **task.pushed}
    run = lists.runs.get(ids.get("run_id", ""))
    if run is not None and not may_show_run(task, run):
        run = None
    token = lists.tokens.get(ids.get("token_id", ""))
    if token is not None and not may_show_token(task, token):
        token = None
    question = None if token is None else Question.of(token.metadata)
    return RunRow(
        task=task,
        status=None if run is None else run.status,
        attempt=None if run is None else run.attempt_number,
        since=None if run is None else run.created_at,
        question=None if question is None else question.subject,
        waits_for_person=token is not None,
        links=links | _links(lists.console_url, task),
    )


def _why_nothing(task: StoredTask) -> Problem:
    if not task.pushes_ids:
        return "ids_not_kept"
    return "nothing_yet" if task.state in UNFINISHED or task.state == "deferred" else "no_ids"


def _links(console_url: str, task: StoredTask) -> dict[str, str]:
    """Build the addresses of console pages from the ids, which replace those that people can edit."""
    ids = {**task.named, **task.pushed}
    links: dict[str, str] = {}
    if (session_id := ids.get("session_id")) is not None:
        links["Helmr session"] = session_url(console_url, session_id)
        if (run_id := ids.get("run_id")) is not None:
            links["Helmr run"] = run_url(console_url, session_id, run_id)
    if (token_id := ids.get("token_id")) is not None:
        links["Helmr token" if "token" in task.links else "Helmr approval"] = token_url(console_url, token_id)
    if (workspace_id := ids.get("workspace_id")) is not None:
        links["Helmr workspace"] = workspace_url(console_url, workspace_id)
    return links


def _optional(read: Callable[[], T], otherwise: T) -> T:
    """Read what a page can do without, when the key may not or the answer is an error of this one request."""
    try:
        return read()
    except HelmrApiError as error:
        if error.retryable:
            raise
        return otherwise
