"""The pages: one for each case, and no text of Helmr's in any of them that leaves its element."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helmr_provider._approvals.question import Question
from helmr_provider.airflow_ui.markup import clean
from helmr_provider.airflow_ui.pages import Rights, log_part, task_page
from helmr_provider.airflow_ui.run_page import dag_run_page
from helmr_provider.airflow_ui.views import Content, DagRunView, RunRow, Tail, TaskView
from helmr_provider.client.models.execs import Exec
from helmr_provider.client.models.runs import RunSnapshot
from helmr_provider.client.models.sessions import SessionRun, SessionSnapshot
from helmr_provider.client.models.tokens import Token
from tests.airflow_ui.helpers import KEY, stored, structure, text_of
from tests.airflow_ui.hostile_text import HOSTILE
from tests.airflow_ui.run_events import BEGAN, event, read, recorded

NOW = BEGAN + timedelta(minutes=12)
EVERYTHING = Rights()
CONSOLE = "https://helmr.example.com"
GOLDEN = Path(__file__).parent / "golden"
LINKS = {"Helmr session": f"{CONSOLE}/sessions/s"}


def run(status: str = "waiting", said: str = "release-summary", **members: Any) -> RunSnapshot:
    ids = dict.fromkeys(("project_id", "environment_id", "deployment_id", "deployment_task_id"), said)
    times = {"created_at": BEGAN, "updated_at": BEGAN}
    known = {"id": "r", "session_id": "s", "task_id": said, "status": status, "attempt_number": 1}
    return RunSnapshot.model_validate({**ids, **times, **known, **members})


def session(said: str = "open") -> SessionSnapshot:
    names = ("project_id", "environment_id", "task_id", "initial_deployment_id", "active_deployment_id")
    members = {"id": "s", "status": said, "activity": said, "created_at": BEGAN, "updated_at": BEGAN}
    return SessionSnapshot.model_validate({**dict.fromkeys(names, said), **members})


def turn(said: str = "succeeded", run_id: str = "r0", index: int = 0) -> SessionRun:
    members = {"id": said, "deployment_id": said, "status": said, "created_at": BEGAN}
    return SessionRun.model_validate({**members, "run_id": run_id, "turn_index": index})


def token(metadata: dict[str, Any] | None = None, status: str = "pending") -> Token:
    expiry = BEGAN + timedelta(hours=5)
    return Token.model_validate({"id": "t", "status": status, "metadata": metadata or {}, "timeout_at": expiry})


def command(said: str = "make test", state: str = "exited", **members: Any) -> Exec:
    times = dict.fromkeys(("created_at", "updated_at", "started_at", "exited_at"), BEGAN)
    known = {"id": "x", "workspace_id": "w", "command": ["sh", "-c", said], "state": state, "cwd": said}
    return Exec.model_validate({**known, **times, "env_shape": {"SECRET": "environment"}, **members})


def page(
    rights: Rights = EVERYTHING,
    *,
    problem: Any = None,
    note: str = "",
    since: Any = None,
    task: Any = None,
    **content: Any,
) -> str:
    view = TaskView(
        task=task or stored(),
        problem=problem,
        note=note,
        since=since,
        content=Content(console_url=CONSOLE, **content) if content else None,
        links=LINKS,
    )
    return task_page(view, rights, NOW)


CASES = {
    "not_helmr": "This task starts no Helmr session.",
    "nothing_yet": "No session yet in this try. The task is deferred.",
    "ids_not_kept": "This task keeps no ids in Airflow, because it has do_xcom_push=False.",
    "no_ids": "This task stored no ids of Helmr in its last try.",
    "no_connection": "The API server does not know the connection helmr_default . Is it known to workers only?",
    "bad_connection": "The connection cannot be used. the reason",
    "off": "The connection helmr_default switches this tab off.",
    "down": "Helmr has not answered for 1 min. It is asked again every 10 seconds.",
    "refused": "Helmr refused the key of the connection helmr_default .",
    "unknown": "Helmr no longer knows this run.",
    "not_ours": "The ids of this task lead to something that another task owns, or that names no owner.",
    "unverified": "The ids of this task lead to nothing that can be shown.",
    "error": "Helmr's answer cannot be used. the reason",
}


@pytest.mark.parametrize(("problem", "said"), CASES.items())
def test_each_case_says_what_is_wrong_and_keeps_the_links(problem: str, said: str) -> None:
    shown = page(problem=problem, note="the reason", since=NOW - timedelta(seconds=70))
    assert said in text_of(shown)
    assert f'href="{CONSOLE}/sessions/s"' in shown


@pytest.mark.parametrize(
    ("problem", "seconds"), [("not_helmr", 0), ("off", 0), ("down", 10), ("nothing_yet", 5), ("refused", 5)]
)
def test_a_page_says_when_it_wants_to_be_asked_again(problem: str, seconds: int) -> None:
    assert f'data-next="{seconds}"' in page(problem=problem)


def test_a_page_whose_run_and_task_have_ended_is_not_asked_again() -> None:
    ended: dict[str, Any] = {
        "run": run("succeeded"),
        "timeline": read(event(1, "run.created"), event(2, "run.completed", 60)),
    }
    assert 'data-next="0"' in page(task=stored(state="success"), **ended)
    assert 'data-next="5"' in page(task=stored(state="running"), **ended)
    assert 'data-next="5"' in page(task=stored(state="success"), run=run("running"), timeline=read())


def test_a_waiting_run_is_described() -> None:
    shown = page(run=run(), session=session(), timeline=read(event(1, "run.created"), event(2, "log.stdout", 30)))
    text = text_of(shown)
    assert "waiting for 12 min" in text
    assert "task release-summary attempt 1 session open" in text
    assert "1 attempt, the run is waiting." in shown
    assert "Output: the last 200 lines" in text


def test_a_pending_question_says_how_to_answer_it() -> None:
    question = Question(subject="Publish the notes?", options=("Approve", "Reject"), body="12 changes")
    shown = page(task=stored(asks=True), token=token(question.metadata))
    text = text_of(shown)
    for said in (
        "waiting for an answer",
        "Publish the notes?",
        "12 changes",
        "Approve, Reject",
        "Time to answer: 4 h 48 min.",
    ):
        assert said in text
    assert f'href="{CONSOLE}/tokens/t"' in shown
    run_id = "manual__2026-11-28T00%3A00%3A00%2B00%3A00"
    assert f'href="../../../../../../../dags/reports/runs/{run_id}/tasks/work/required_actions"' in shown
    assert "required_actions" not in page(token=token(question.metadata))
    assert "A token waits to be completed." in page(token=token())


def test_an_answered_question_is_not_asked_any_more() -> None:
    shown = page(token=token(Question(subject="Publish?", options=("Yes",)).metadata, status="completed"))
    assert "answered" in text_of(shown)
    assert "Publish?" not in shown


def test_a_failed_run_says_why_and_shows_its_attempts() -> None:
    shown = page(run=run("failed", attempt_number=2), session=session(), timeline=read(*recorded(1069)))
    text = text_of(shown)
    assert "worker_failed" in text
    assert "2 attempts, the run is failed." in shown
    assert shown.index("run.failed") < shown.index("run.created"), "the newest event is first"


def test_the_wait_that_the_server_describes_is_quoted() -> None:
    wait = event(2, "run_wait.created", 60, 1, kind="token", params={"token_id": "t"})
    shown = page(run=run(), session=session(), timeline=read(event(1, "run.created"), wait))
    assert "waiting for 11 min" in text_of(shown)
    assert f'href="{CONSOLE}/tokens/t"' in shown


def test_a_command_shows_its_exit_code_and_its_last_lines_and_no_environment() -> None:
    tails = (Tail(stream="stderr", text="no space left", total=13, cut=False),)
    shown = page(exec=command(exit_code=7), exec_tails=tails)
    assert "exit code 7" in text_of(shown)
    assert "no space left" in shown
    assert "environment" not in shown
    assert "terminated by SIGKILL" in text_of(page(exec=command(state="terminated", signal="SIGKILL")))
    assert "running for 12 min" in text_of(page(exec=command(state="running")))


def test_other_turns_of_the_session_are_listed() -> None:
    shown = page(run=run(), session=session(), timeline=read(), turns=(turn(), turn(run_id="r", index=1)))
    assert f'href="{CONSOLE}/sessions/s/runs/r0"' in shown
    assert f'href="{CONSOLE}/sessions/s/runs/r"' not in shown


FAILED: dict[str, Any] = {"run": run("failed"), "session": session(), "timeline": read(*recorded(1069))}


@pytest.mark.parametrize(("rights", "more"), [(Rights(logs=False), {}), (EVERYTHING, {"status_only": True})])
def test_output_and_reasons_are_kept_back(rights: Rights, more: dict[str, Any]) -> None:
    shown = page(rights, **FAILED, **more)
    assert "worker_failed" not in shown
    assert "<details" not in shown
    tails = (Tail(stream="stdout", text="some output", total=11, cut=False),)
    command_page = page(rights, exec=command(exit_code=1), exec_tails=tails, **more)
    assert "some output" not in command_page
    assert "make test" not in command_page


def test_a_person_without_the_right_to_read_xcoms_sees_nothing_of_helmr() -> None:
    shown = page(Rights(xcoms=False), **FAILED)
    assert "You may not read the XComs" in shown
    assert CONSOLE not in shown


def test_a_person_without_the_right_to_read_questions_sees_none() -> None:
    question = Question(subject="Publish?", options=("Yes",)).metadata
    assert "Publish?" not in page(Rights(questions=False), token=token(question))
    row = RunRow(task=stored(), waits_for_person=True, question="Publish?")
    view = DagRunView(dag_id="d", run_id="r", rows=(row,))
    assert "Publish?" not in dag_run_page(view, Rights(questions=False), NOW)
    assert "Publish?" in dag_run_page(view, EVERYTHING, NOW)


def test_the_page_of_a_recorded_run_is_as_it_was() -> None:
    """Compare with a stored page. Delete the file to store the page as it is now."""
    stored_page = GOLDEN / "retried.html"
    shown = page(run=run("failed", attempt_number=2), session=session(), timeline=read(*recorded(1069)))
    shown = shown.replace("><", ">\n<") + "\n"
    if not stored_page.exists():
        stored_page.parent.mkdir(exist_ok=True)
        stored_page.write_text(shown)
    assert shown == stored_page.read_text()


def everything(said: str) -> str:
    """A page on which every text of Helmr's is the same."""
    created = event(1, "run.created", reason=said, payload=said)
    failed = event(2, "run.failed", 5, failure_kind=said, detail={"message": said})
    other = event(3, said, 6)
    wait = event(4, "run_wait.created", 7, 1, kind="token", params={"token_id": "t"})
    question = {"approval": {"subject": f"?{said}", "options": [f"o{said}"], "body": f"b{said}"}}
    tails = (Tail(stream="stdout", text=said, total=99, cut=True),)
    shown = page(
        task=stored(asks=True, state="deferred"),
        problem="error",
        note=said,
        run=run("waiting", said),
        session=session(said),
        timeline=read(created, failed, other, wait),
        turns=(turn(said), turn(run_id="r", index=1)),
        token=token(question),
        exec=command(said, said),
        exec_tails=tails,
    )
    return shown + log_part(tails)


# An event of a kind that begins like one of ours would be drawn as such.
@given(HOSTILE.filter(lambda said: said.strip() and not said.startswith(("log", "run"))))
def test_no_text_of_helmr_leaves_its_element(said: str) -> None:
    assert structure(everything(said)) == structure(everything("harmless"))


@given(HOSTILE, st.sampled_from(["succeeded", "failed"]))
def test_no_text_in_a_dag_run_leaves_its_element(said: str, status: str) -> None:
    def shown(text: str) -> str:
        key = replace(KEY, task_id=f"t{text}")
        task = stored(key, state=status)
        links = {"Helmr run": f"{CONSOLE}/{text}"}
        row = RunRow(task=task, status=f"s{text}", question=f"q{text}", waits_for_person=True, links=links)
        mapped = tuple(RunRow(task=stored(replace(KEY, map_index=each)), status=text or "-") for each in range(2))
        problems: Any = {f"c{text}": ("down", text)}
        return dag_run_page(DagRunView(dag_id="d", run_id="r", rows=(row, *mapped), problems=problems), EVERYTHING, NOW)

    assert structure(shown(said)) == structure(shown("harmless"))


def test_credentials_are_masked_on_every_page() -> None:
    secret = "hlmr_pat_planted_somewhere"
    assert secret not in everything(secret)
    assert clean(secret) in everything(secret)


def test_a_link_that_leads_to_no_web_page_is_no_link() -> None:
    view = TaskView(task=stored(), problem="unknown", links={"Helmr run": "javascript:alert(1)"})
    assert "javascript" not in task_page(view, EVERYTHING, NOW)


def test_the_end_of_an_output_is_shown_as_text() -> None:
    assert "The output cannot be read now." in log_part(None)
    assert "Nothing has been written yet." in log_part(())
    tail = Tail(stream="stdout", text="a\nb", total=70000, cut=True)
    assert text_of(log_part([tail])) == "stdout, the last lines of 70,000 bytes a b"


def test_instances_of_a_mapped_task_are_folded_into_one_row() -> None:
    rows = tuple(
        RunRow(task=stored(replace(KEY, map_index=number)), status="waiting" if number else "running", since=BEGAN)
        for number in range(130)
    )
    alone = RunRow(task=stored(replace(KEY, task_id="alone"), state="success"))
    shown = dag_run_page(DagRunView(dag_id="d", run_id="r", rows=(*rows, alone), left_out=3), EVERYTHING, NOW)
    text = text_of(shown)
    assert "work (130 mapped)" in text
    assert "129 waiting 1 running" in text
    assert "30 more" in text
    assert "3 more task instances are not shown." in text
    assert "tasks/work/mapped/7/plugin/helmr" in shown
    assert 'tasks/alone/plugin/helmr"' in shown


def test_a_dag_run_without_helmr_tasks_says_so() -> None:
    shown = dag_run_page(DagRunView(dag_id="d", run_id="r"), EVERYTHING, datetime.now(UTC))
    assert "No task of this DAG run uses Helmr." in shown
    assert 'data-next="0"' in shown


def test_no_page_has_inline_styles_or_handlers() -> None:
    for tag, *attributes in structure(everything("x")):
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
