"""The page of a task instance. No I/O."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from helmr_provider._approvals.question import Question
from helmr_provider.airflow_ui.formatting import age, badge, moment, tone
from helmr_provider.airflow_ui.markup import element, join, link
from helmr_provider.airflow_ui.picture import picture
from helmr_provider.links import run_url, token_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from helmr_provider.airflow_ui.markup import Markup
    from helmr_provider.airflow_ui.timeline import Row, Timeline
    from helmr_provider.airflow_ui.views import Content, StoredTask, Tail, TaskKey, TaskView
    from helmr_provider.client.models.execs import Exec
    from helmr_provider.client.models.runs import RunSnapshot
    from helmr_provider.client.models.sessions import SessionRun
    from helmr_provider.client.models.tokens import Token

_EVENTS: Final = 60
_TURNS: Final = 50
_COMMAND: Final = 400
# A page lies at helmr/dags/<dag>/runs/<run>/tasks/<task>/<map index>, a page of Airflow at dags/<dag>/...
_TO_AIRFLOW: Final = "../" * 7


_PROBLEMS: Final = {
    "not_helmr": "This task starts no Helmr session.",
    "ids_not_kept": "This task keeps no ids in Airflow, because it has do_xcom_push=False.",
    "no_ids": "This task stored no ids of Helmr in its last try.",
    "bad_connection": "The connection cannot be used. ",
    "unknown": "Helmr no longer knows this run.",
    "not_ours": "The ids of this task lead to something that another task owns, or that names no owner. "
    "It is not shown.",
    "unverified": "The ids of this task lead to nothing that can be shown.",
    "error": "Helmr's answer cannot be used. ",
}


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What a person may read of a DAG, beyond its task instances.

    :param xcoms: the ids that lead to Helmr.
    :param logs: output and reasons of failures.
    :param questions: the questions to people.
    """

    xcoms: bool = True
    logs: bool = True
    questions: bool = True


def task_page(view: TaskView, rights: Rights, now: datetime) -> Markup:
    """Return the changing part of a task instance's page.

    :param view: what to show.
    :param rights: of the person who sees it.
    :param now: the time.
    """
    if not rights.xcoms and view.task.helmr:
        message = "You may not read the XComs of this DAG, which hold the ids of Helmr sessions."
        return main([_notice(message, kind="soft")], view.refresh)
    problem, content = _problem(view, now), view.content
    if content is None:
        return main([problem, _links(view.links)], view.refresh)
    is_pending = content.token is not None and content.token.is_pending
    # Its link is among the ways to answer.
    links = {
        name: url for name, url in view.links.items() if not (is_pending and name in {"Helmr approval", "Helmr token"})
    }
    sections = [problem, _status(content, links, now)]
    if content.token is not None and is_pending:
        sections.append(_question(view.task, content.token, content.console_url, rights, now))
    if content.run is not None and content.timeline is not None:
        sections += [
            _failure(content.run, content.timeline, content, rights),
            _picture(content.timeline, content.run.status, now),
            _events(content.timeline, shows_failures=rights.logs and not content.status_only),
        ]
    if content.exec is not None:
        sections.append(_command(content.exec, content, rights))
    if (content.run is not None or content.exec is not None) and not content.status_only:
        sections.append(_log(rights))
    sections.append(_turns(content))
    return main(sections, view.refresh, stale=view.problem is not None)


def log_part(tails: Sequence[Tail] | None) -> Markup:
    """Return the end of an output.

    :param tails: one for each stream; ``None`` when it cannot be read.
    """
    if tails is None:
        return element("p", "The output cannot be read now.", class_="soft")
    if not tails:
        return element("p", "Nothing has been written yet.", class_="soft")
    return join(_tail(tail) for tail in tails)


def main(sections: Iterable[Markup | None], refresh: int, *, stale: bool = False) -> Markup:
    """Put sections together.

    :param sections: ``None`` is left out.
    :param refresh: seconds until the page asks again; 0 for never.
    :param stale: whether the content is not up to date.
    """
    return element("main", *sections, data_next=refresh, class_="old" if stale else None)


def section(name: str, *children: object, heading: str | None = None, class_: str | None = None) -> Markup:
    """Return a part of a page that is replaced for itself.

    :param name: its id.
    :param children: texts and elements.
    :param heading: above them.
    """
    title = None if heading is None else element("h2", heading)
    return element("section", title, *children, id=name, class_=class_)


def airflow_path(key: TaskKey, tab: str, *, root: str = _TO_AIRFLOW) -> str:
    """Return the relative address of a task instance's page in Airflow.

    :param key: names the task instance.
    :param tab: the page's tab.
    :param root: leads from the page in the frame to Airflow's root.
    """
    mapped = f"/mapped/{key.map_index}" if key.map_index >= 0 else ""
    dag_id, run_id, task_id = (quote(part, safe="") for part in (key.dag_id, key.run_id, key.task_id))
    return f"{root}dags/{dag_id}/runs/{run_id}/tasks/{task_id}{mapped}/{tab}"


def _problem(view: TaskView, now: datetime) -> Markup | None:  # noqa: PLR0911 - one for each row of a table
    if view.problem is None:
        return None
    conn_id = element("code", view.task.conn_id or "unknown")
    match view.problem:
        case "nothing_yet":
            state = view.task.state or "not scheduled"
            return _notice(f"No session yet in this try. The task is {state}.", kind="soft")
        case "no_connection" if view.task.conn_id is None:
            return _notice("Airflow no longer knows which connection this task used.", kind="soft")
        case "no_connection":
            return _notice("The API server does not know the connection ", conn_id, ". Is it known to workers only?")
        case "bad_connection" | "error":
            return _notice(_PROBLEMS[view.problem], view.note, kind="bad")
        case "off":
            return _notice("The connection ", conn_id, " switches this tab off.", kind="soft")
        case "refused":
            return _notice("Helmr refused the key of the connection ", conn_id, ".", kind="bad")
        case "down":
            since = "" if view.since is None else f" for {age(now - view.since)}"
            stale = " Below is its last answer." if view.content is not None else ""
            return _notice(f"Helmr has not answered{since}. It is asked again every 10 seconds.{stale}", kind="bad")
        case _:
            return _notice(_PROBLEMS[view.problem], kind="soft")


def _notice(*parts: object, kind: str = "wait") -> Markup:
    return section("problem", element("div", element("p", *parts), class_=f"notice {kind}", role="status"))


def _status(content: Content, links: Mapping[str, str], now: datetime) -> Markup:
    facts: list[Markup] = []
    if (run := content.run) is not None:
        headline = [badge(run.status), element("span", _run_age(run, content.timeline, now), class_="soft")]
        facts += _run_facts(run, content)
    elif (token := content.token) is not None:
        words = {"pending": "waiting for an answer", "completed": "answered"}
        headline = [badge(words.get(token.status, token.status), "wait" if token.is_pending else None)]
    elif (command := content.exec) is not None:
        headline = [_exec_badge(command), element("span", _exec_age(command, now), class_="soft")]
    else:
        headline = [badge(content.session.status if content.session is not None else "unknown")]
        facts += _session_facts(content)
    return section(
        "status",
        element("div", element("h1", *headline), class_="head"),
        element("p", *facts, class_="facts") if facts else None,
        _buttons(links),
    )


def _run_age(run: RunSnapshot, timeline: Timeline | None, now: datetime) -> str:
    if not run.is_terminal:
        since = timeline.waits_since if timeline is not None and run.is_waiting else None
        return f" for {age(now - (since or run.updated_at))}"
    ended = (timeline.ended if timeline is not None else None) or run.updated_at
    return f" {age(now - ended)} ago, after {age(ended - run.created_at)}"


def _run_facts(run: RunSnapshot, content: Content) -> list[Markup]:
    facts = [_fact("task", run.task_id)]
    if run.attempt_number is not None:
        facts.append(_fact("attempt", run.attempt_number))
    if run.exit_code is not None:
        facts.append(_fact("exit code", run.exit_code))
    timeline = content.timeline
    if run.is_waiting and timeline is not None and timeline.waits_for is not None:
        token = timeline.waits_for_token
        awaited = timeline.waits_for if token is None else link(token_url(content.console_url, token), "a token")
        facts.append(_fact("waits for", awaited))
    return facts + _session_facts(content) + [_fact("created", moment(run.created_at))]


def _session_facts(content: Content) -> list[Markup]:
    session = content.session
    if session is None:
        return []
    more = [] if len(content.turns) < 2 else [_fact("turns", len(content.turns))]
    return [_fact("session", session.status), *more]


def _fact(name: str, value: object) -> Markup:
    return element("span", f"{name} ", element("b", value, class_="foreign"))


def _links(links: Mapping[str, str]) -> Markup | None:
    buttons = _buttons(links)
    return None if buttons is None else section("links", buttons)


def _buttons(links: Mapping[str, str]) -> Markup | None:
    shown = [(name, url) for name, url in links.items() if url]
    if not shown:
        return None
    items = (element("li", link(url, f"Open {name}", class_="button")) for name, url in shown)
    return element("ul", *items, class_="links", aria_label="Pages in Helmr")


def _question(task: StoredTask, token: Token, console_url: str, rights: Rights, now: datetime) -> Markup:
    if not rights.questions:
        return section("question", element("p", "A question is pending. You may not read it."), class_="question")
    question = Question.of(token.metadata)
    parts: list[Markup] = []
    if question is None:
        parts.append(element("p", "A token waits to be completed.", class_="subject"))
    else:
        parts.append(element("p", question.subject, class_="subject foreign"))
        if question.body:
            parts.append(element("p", question.body, class_="foreign"))
        parts.append(element("p", "Options: ", element("b", ", ".join(question.options), class_="foreign")))
    if token.timeout_at is not None:
        left = token.timeout_at - now
        when = "The time to answer is over." if left <= timedelta(0) else f"Time to answer: {age(left)}."
        parts.append(element("p", when, class_="soft"))
    ways = []
    if task.asks:
        here = airflow_path(task.key, "required_actions")
        ways.append(link(here, "Answer in Airflow", class_="button main", here=True))
    ways.append(link(token_url(console_url, token.id), "Answer in Helmr", class_="button"))
    parts.append(element("ul", *(element("li", way) for way in ways), class_="links"))
    return section("question", *parts, heading="Waiting for a person", class_="question")


def _failure(run: RunSnapshot, timeline: Timeline, content: Content, rights: Rights) -> Markup | None:
    failure = timeline.last_failure
    if failure is None or run.is_success or content.status_only or not rights.logs or not failure.note:
        return None
    return section(
        "failure",
        element("div", element("p", failure.note, class_="foreign"), class_="notice bad"),
        heading="Last failure",
    )


def _picture(timeline: Timeline, status: str, now: datetime) -> Markup | None:
    if timeline.began is None:
        return None
    end = timeline.ended
    legend = [element("span", moment(timeline.began))]
    if timeline.outputs:
        written = "1 piece of output" if timeline.outputs == 1 else f"{timeline.outputs} pieces of output"
        legend.append(element("span", written, class_="count"))
    legend.append(element("span", "now" if end is None else moment(end)))
    return section(
        "picture",
        picture(timeline, status, now),
        element("p", *legend, class_="legend", aria_hidden="true"),
        heading="Attempts" if len(timeline.attempts) > 1 else "Attempt",
    )


def _events(timeline: Timeline, *, shows_failures: bool) -> Markup:
    rows = list(timeline.rows)[-_EVENTS:]
    hidden = len(timeline.rows) - len(rows) + timeline.left_out
    earlier = element("p", f"{hidden} earlier events are in Helmr.", class_="soft") if hidden else None
    lines = [_event(row, shows_failures=shows_failures) for row in reversed(rows)]
    return section(
        "events",
        table(("When (UTC)", "Event", "Attempt", "Detail"), lines, "No events yet."),
        earlier,
        heading="Events, newest first",
    )


def _event(row: Row, *, shows_failures: bool) -> list[object]:
    count = f" ({row.count} times)" if row.count > 1 else ""
    note = row.note if shows_failures or not row.failure else ""
    if row.until - row.at >= timedelta(seconds=1):
        note = f"over {age(row.until - row.at)}"
    return [
        moment(row.at),
        f"{row.kind}{count}",
        row.attempt,
        element("span", note, class_="foreign") if note else None,
    ]


def _command(command: Exec, content: Content, rights: Rights) -> Markup:
    argv = list(command.command)
    words = argv[2] if len(argv) == 3 and argv[:2] == ["sh", "-c"] else shlex.join(argv)
    shown = words if len(words) <= _COMMAND else f"{words[:_COMMAND]}…"
    tails: list[Markup] = []
    if rights.logs and not content.status_only:
        tails = [_tail(tail) for tail in content.exec_tails]
    code = None if content.status_only or not rights.logs else element("pre", shown)
    return section("command", code, *tails, heading="Command")


def _exec_badge(command: Exec) -> Markup:
    if command.exit_code is not None:
        return badge(f"exit code {command.exit_code}", "good" if command.is_success else "bad")
    signal = f" by {command.signal}" if command.signal else ""
    return badge(f"{command.state}{signal}", tone(command.state))


def _exec_age(command: Exec, now: datetime) -> str:
    if not command.is_terminal:
        return f" for {age(now - (command.started_at or command.created_at))}"
    ended = command.exited_at or command.updated_at
    return f" {age(now - ended)} ago, after {age(ended - (command.started_at or command.created_at))}"


def _log(rights: Rights) -> Markup | None:
    if not rights.logs:
        return None
    body = element("div", element("p", "Reading …", class_="soft"), data_body=True, aria_live="polite")
    return section("log", element("details", element("summary", "Output: the last 200 lines"), body, data_part="log"))


def _tail(tail: Tail) -> Markup:
    cut = f", the last lines of {tail.total:,} bytes" if tail.cut else ""
    return join([element("h3", f"{tail.stream}{cut}"), element("pre", tail.text, tabindex=0)])


def _turns(content: Content) -> Markup | None:
    run, session = content.run, content.session
    if session is None or run is None:
        return None
    others = [turn for turn in content.turns if turn.run_id != run.id]
    if not others:
        return None
    lines = [_turn(turn, session.id, content.console_url) for turn in sorted(others, key=lambda each: -each.turn_index)]
    return section(
        "turns",
        table(("Turn", "Status", "Created (UTC)", "Run"), lines[:_TURNS], ""),
        heading="Other turns of the session",
    )


def _turn(turn: SessionRun, session_id: str, console_url: str) -> list[object]:
    return [
        turn.turn_index,
        badge(turn.status),
        moment(turn.created_at),
        link(run_url(console_url, session_id, turn.run_id), element("code", turn.run_id)),
    ]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], nothing: str) -> Markup:
    """Return a table, or a sentence if it has no rows. In a narrow frame, each cell names its column.

    :param heads: names of the columns.
    :param rows: their cells; ``None`` for an empty one.
    :param nothing: what to say without rows.
    """
    lines = [
        element("tr", *(element("td", cell, data_name=name) for name, cell in zip(heads, row, strict=True)))
        for row in rows
    ]
    if not lines:
        return element("p", nothing, class_="soft")
    names = element("tr", *(element("th", name, scope="col") for name in heads))
    return element("table", element("thead", names), element("tbody", *lines), class_="list")
