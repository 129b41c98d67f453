"""What is read for a page, on the local control plane: how much, whose, and what when something is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from helmr_provider._approvals.question import Question
from helmr_provider._sessions.identity import Identity
from helmr_provider._workspaces.ownership import MARK
from tests.airflow_ui.conftest import needs_tab
from tests.airflow_ui.helpers import KEY, owned_by, stored
from tests.airflow_ui.started_sessions import start, waiting
from tests.support.polling import until

if TYPE_CHECKING:
    from helmr_provider.airflow_ui.reader import Reader
    from helmr_provider.airflow_ui.views import TaskView
    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalEnvironment
    from tests.airflow_ui.helpers import Clock, Storage

pytestmark = needs_tab


def requests(server: LocalEnvironment) -> list[str]:
    return [entry.operation for entry in server.journal if entry.operation]


def test_a_live_run_costs_two_requests_once_its_session_is_known(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment, clock: Clock
) -> None:
    waiting(helmr_client, storage)
    first = reader.task(KEY)
    assert first.problem is None
    assert first.content is not None
    assert first.content.run is not None
    assert first.content.run.status == "waiting"
    helmr_server.clear_journal()
    clock.seconds += 5
    assert reader.task(KEY).content is not None
    assert requests(helmr_server) == ["getRun", "getRunEvents"]
    helmr_server.clear_journal()
    clock.seconds += 15
    reader.task(KEY)
    assert sorted(requests(helmr_server)) == ["getRun", "getRunEvents", "getSession", "listSessionRuns"]


def test_a_run_that_has_ended_is_read_once(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment
) -> None:
    token, started = waiting(helmr_client, storage)
    reader.task(KEY)
    helmr_client.tokens.complete(token.id, {"approved": True})
    helmr_client.runs.wait(started.run.id)
    storage.change(state="success")
    ended = reader.task(KEY)
    assert ended.content is not None
    assert ended.content.timeline is not None
    assert ended.content.timeline.attempts[-1].outcome == "succeeded"
    assert ended.refresh == 0
    helmr_server.clear_journal()
    assert reader.task(KEY).content == ended.content
    assert requests(helmr_server) == []


def test_a_cleared_task_shows_nothing_of_the_try_before(
    reader: Reader, storage: Storage, helmr_client: HelmrClient
) -> None:
    waiting(helmr_client, storage)
    assert reader.task(KEY).content is not None
    storage.change(state="queued", pushed={})
    view = reader.task(KEY)
    assert (view.problem, view.content) == ("nothing_yet", None)
    assert view.refresh > 0


OTHERS = [
    replace(KEY, dag_id="payroll"),
    replace(KEY, task_id="other"),
    replace(KEY, run_id="x"),
    replace(KEY, map_index=1),
]


@pytest.mark.parametrize("other", OTHERS)
def test_a_forged_xcom_shows_nothing_of_another_task_s_session(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment, other: Any
) -> None:
    theirs = start(helmr_client, storage, "echo", {"salary": 1}, key=other)
    token = helmr_client.tokens.create(metadata=owned_by(other))
    storage.put(stored(pushed={"session_id": theirs.session.id, "run_id": theirs.run.id}))
    helmr_server.clear_journal()
    view = reader.task(KEY)
    assert (view.problem, view.content) == ("not_ours", None)
    assert "getRunEvents" not in requests(helmr_server)
    assert reader.log(view) is None
    storage.put(stored(pushed={"token_id": token.id}))
    assert reader.task(KEY).problem == "not_ours"


def test_a_forged_run_id_beside_our_session_shows_nothing(
    reader: Reader, storage: Storage, helmr_client: HelmrClient
) -> None:
    theirs = start(helmr_client, storage, "echo", key=OTHERS[0])
    ours = start(helmr_client, storage, "echo")
    storage.put(stored(pushed={"session_id": ours.session.id, "run_id": theirs.run.id}))
    assert reader.task(KEY).problem == "not_ours"


def test_a_session_that_other_tasks_of_the_dag_named_is_shown_where_the_author_named_it(
    reader: Reader, storage: Storage, helmr_client: HelmrClient
) -> None:
    starter = replace(KEY, task_id="starter")
    started = start(helmr_client, storage, "echo", key=starter, external_id="shared")
    for named in ({"session_id": started.session.id}, {"external_id": "shared"}, {"run_id": started.run.id}):
        storage.put(stored(named=named))
        content = reader.task(KEY).content
        assert content is not None
        assert content.run is not None
        assert content.run.id == started.run.id


def test_a_pending_question_is_read_until_it_is_answered(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment
) -> None:
    question = Question(subject="Publish?", options=("Yes", "No"))
    token = helmr_client.tokens.create(metadata={**owned_by(), **question.metadata}, timeout="1h")
    storage.put(stored(pushed={"token_id": token.id}))
    content = reader.task(KEY).content
    assert content is not None
    assert content.token is not None
    assert content.token.is_pending
    assert content.live
    helmr_client.tokens.complete(token.id, "Yes")
    content = reader.task(KEY).content
    assert content is not None
    assert not content.live
    helmr_server.clear_journal()
    reader.task(KEY)
    assert requests(helmr_server) == []


def workspace_command(client: HelmrClient, epoch: str, command: str) -> Any:
    identity = Identity(prefix="airflow", dag_id=KEY.dag_id, run_id=KEY.run_id, task_id=KEY.task_id)
    workspace = client.workspaces.create("local")
    mark = identity.once_key(epoch, "exec", "1")
    started = client.workspaces.open(workspace.id).exec(["sh", "-c", command], env={MARK: mark}, idempotency_key=mark)
    return {"workspace_id": workspace.id, "exec_id": started.id}


def test_a_command_s_exit_code_and_last_lines_are_read(
    reader: Reader, storage: Storage, helmr_client: HelmrClient
) -> None:
    ids = workspace_command(helmr_client, "e", "seq 1 100; echo no space left >&2; exit 7")
    helmr_client.workspaces.open(ids["workspace_id"]).execs.open(ids["exec_id"]).wait()
    storage.put(stored(state="failed", epoch="e", pushed=ids))
    view = reader.task(KEY)
    assert view.content is not None
    assert view.content.exec is not None
    assert view.content.exec.exit_code == 7
    tails = {tail.stream: tail for tail in view.content.exec_tails}
    assert tails["stdout"].text.split("\n")[-1] == "100"
    assert tails["stdout"].cut
    assert tails["stderr"].text == "no space left"
    log = reader.log(view)
    assert log is not None
    assert log[0].text.split("\n") == [str(number) for number in range(1, 101)]


def test_a_command_without_our_mark_in_a_workspace_without_an_owner_is_not_shown(
    reader: Reader, storage: Storage, helmr_client: HelmrClient
) -> None:
    ids = workspace_command(helmr_client, "another epoch", "true")
    storage.put(stored(epoch="e", pushed=ids))
    assert reader.task(KEY).problem == "not_ours"
    helmr_client.workspaces.update(ids["workspace_id"], metadata=owned_by(replace(KEY, dag_id="payroll")))
    assert reader.task(KEY).problem == "not_ours"
    helmr_client.workspaces.update(ids["workspace_id"], metadata=owned_by(replace(KEY, task_id="create")))
    assert reader.task(KEY).problem is None


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"helmr": False}, "not_helmr"),
        ({"state": "queued"}, "nothing_yet"),
        ({"state": None}, "nothing_yet"),
        ({"pushes_ids": False}, "ids_not_kept"),
        ({"state": "success"}, "no_ids"),
        ({"conn_id": None, "pushed": {"session_id": "s"}}, "no_connection"),
        ({"conn_id": "elsewhere", "pushed": {"session_id": "s"}}, "no_connection"),
        ({"pushed": {"session_id": str(UUID(int=1)), "run_id": str(UUID(int=2))}}, "unknown"),
    ],
)
def test_the_reason_why_nothing_is_shown(reader: Reader, storage: Storage, members: Any, problem: str) -> None:
    storage.put(stored(**{"links": {"session": "https://helmr.example.com/s"}, **members}))
    view = reader.task(KEY)
    assert (view.problem, view.content) == (problem, None)
    assert bool(view.links) is (problem != "not_helmr")


def test_a_task_without_helmr_costs_no_request(
    reader: Reader, storage: Storage, helmr_server: LocalEnvironment
) -> None:
    storage.put(stored(helmr=False))
    assert reader.task(KEY).refresh == 0
    assert (storage.fetches, requests(helmr_server)) == (0, [])


def test_a_connection_of_another_type_is_not_used(reader: Reader, storage: Storage) -> None:
    storage.put(stored(pushed={"session_id": "s"}))
    storage.connections["helmr_default"].conn_type = "http"
    view = reader.task(KEY)
    assert view.problem == "bad_connection"
    assert "helmr_default" in view.note


def test_a_malformed_connection_says_why(reader: Reader, storage: Storage) -> None:
    storage.put(stored(pushed={"session_id": "s"}))
    storage.connect("", "")
    view = reader.task(KEY)
    assert view.problem == "bad_connection"
    assert "host is missing" in view.note


@pytest.mark.parametrize("tab", ["off", "nonsense"])
def test_a_connection_can_switch_the_tab_off(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment, tab: str
) -> None:
    start(helmr_client, storage, "echo")
    storage.connect(helmr_server.url, helmr_server.api_key, {"airflow_tab": tab})
    helmr_server.clear_journal()
    view = reader.task(KEY)
    assert view.problem == ("off" if tab == "off" else "bad_connection")
    assert view.content is None
    assert requests(helmr_server) == []


def test_a_connection_can_keep_output_back(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment
) -> None:
    started = start(helmr_client, storage, "fail")
    helmr_client.runs.wait(started.run.id)
    storage.connect(helmr_server.url, helmr_server.api_key, {"airflow_tab": "status"})
    view = reader.task(KEY)
    assert view.content is not None
    assert view.content.status_only
    assert reader.log(view) is None


def shown(reader: Reader, clock: Clock) -> TaskView:
    clock.seconds += 3
    return reader.task(KEY)


def test_an_outage_is_probed_every_ten_seconds_and_keeps_the_last_answer(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment, clock: Clock
) -> None:
    waiting(helmr_client, storage)
    reader.task(KEY)
    helmr_server.clear_journal()
    helmr_server.fail_next("getRun", 503, times=2)
    views = [shown(reader, clock) for _ in range(5)]
    assert [view.problem for view in views] == ["down"] * 5
    assert requests(helmr_server) == ["getRun", "getRun"]
    assert len({view.since for view in views}) == 1
    assert all(view.content is not None for view in views)
    clock.seconds += 10
    assert shown(reader, clock).problem is None
    assert shown(reader, clock).problem is None


def test_a_refused_key_is_fetched_again(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment
) -> None:
    waiting(helmr_client, storage)
    good = helmr_server.api_key
    storage.connect(helmr_server.url, "hlmr_sk_wrong_wrong_wrong")
    view = reader.task(KEY)
    assert (view.problem, view.content) == ("refused", None)
    assert "wrong_wrong" not in repr(view)
    storage.connect(helmr_server.url, good)
    assert reader.task(KEY).problem is None


def test_the_connection_is_fetched_once_a_minute(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, clock: Clock
) -> None:
    waiting(helmr_client, storage)
    for _ in range(5):
        reader.task(KEY)
    assert storage.fetches == 1
    clock.seconds += 61
    reader.task(KEY)
    assert storage.fetches == 2


def test_a_key_without_the_scope_for_turns_still_shows_the_run(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment
) -> None:
    waiting(helmr_client, storage)
    helmr_server.fail_next("listSessionRuns", 403)
    view = reader.task(KEY)
    assert view.content is not None
    assert view.content.turns == ()


def test_what_is_remembered_is_bounded(reader: Reader, storage: Storage) -> None:
    for number in range(250):
        key = replace(KEY, map_index=number)
        storage.put(stored(key, conn_id="elsewhere", pushed={"session_id": "s"}))
        reader.task(key)
    assert len(reader._memories) == 200


def test_a_dag_run_costs_two_lists_for_any_number_of_tasks(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment
) -> None:
    gate = helmr_client.tokens.create(timeout="1h")
    run_id = ""
    for number in range(3):
        key = replace(KEY, map_index=number)
        started = start(helmr_client, storage, "release-summary", {"token_id": gate.id, "work_seconds": 0}, key=key)
        run_id = started.run.id
        until(lambda run_id=run_id: helmr_client.runs.retrieve(run_id).status == "waiting")  # type: ignore[misc]
    question = Question(subject="Publish?", options=("Yes", "No"))
    question_key = replace(KEY, task_id="ask")
    token = helmr_client.tokens.create(metadata={**owned_by(question_key), **question.metadata})
    storage.put(stored(question_key, pushed={"token_id": token.id}))
    forged = replace(KEY, task_id="forged")
    storage.put(stored(forged, pushed={"run_id": run_id, "token_id": token.id}))
    storage.put(stored(replace(KEY, task_id="plain"), helmr=False))
    helmr_server.clear_journal()
    view = reader.dag_run(KEY.dag_id, KEY.run_id)
    assert requests(helmr_server) == ["listRuns", "listTokens"]
    rows = {(row.task.key.task_id, row.task.key.map_index): row for row in view.rows}
    assert [rows["work", number].status for number in range(3)] == ["waiting"] * 3
    assert rows["ask", -1].question == "Publish?"
    assert (rows["forged", -1].status, rows["forged", -1].question) == (None, None)
    assert ("plain", -1) not in rows


def test_a_dag_run_that_has_ended_costs_no_request(
    reader: Reader, storage: Storage, helmr_client: HelmrClient, helmr_server: LocalEnvironment
) -> None:
    start(helmr_client, storage, "echo")
    storage.change(state="success")
    helmr_server.clear_journal()
    view = reader.dag_run(KEY.dag_id, KEY.run_id)
    assert (view.refresh, requests(helmr_server)) == (0, [])
    assert [row.links.keys() for row in view.rows] == [{"Helmr session", "Helmr run"}]


def test_a_dag_run_names_the_connection_that_cannot_be_asked(
    reader: Reader, storage: Storage, helmr_server: LocalEnvironment
) -> None:
    storage.put(stored(pushed={"run_id": "r"}))
    helmr_server.fail_next("listRuns", 503)
    view = reader.dag_run(KEY.dag_id, KEY.run_id)
    assert view.problems["helmr_default"][0] == "down"
    assert len(view.rows) == 1
