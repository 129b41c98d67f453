"""Started at most once: crashes, retries, clears, races and names of the author's own, against a control plane."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from helmr_provider._common.sans_io import run_steps
from helmr_provider._sessions.find_or_start import Adopt
from helmr_provider._sessions.identity import OwnershipMetadata, owner_of
from helmr_provider._sessions.ownership import OwnedSession
from helmr_provider._sessions.starter import SessionStarter, look_up
from helmr_provider.local import faults
from tests.support.session_tasks import LIVE, a_task, starts
from tests.support.task_attempts import deferred, fire

if TYPE_CHECKING:
    from collections.abc import Callable

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane

pytestmark = pytest.mark.usefixtures("helmr_connection")


def owner(client: HelmrClient, session_id: str) -> Any:
    return client.sessions.retrieve(session_id).metadata["airflow"]["owner"]


class WorkerKilled(BaseException):
    """Ends the worker at this point."""


# Crashes and retries


def test_a_worker_killed_right_after_the_start_leaves_the_run_to_the_retry(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    control_plane.pause_worker()
    task = a_task(payload=1, deferrable=True)
    killed = task.start()

    def die(**_: Any) -> None:
        raise WorkerKilled

    killed.ti.xcom_push = die
    with pytest.raises(WorkerKilled):
        killed.execute()
    retry = task.start()
    deferral = deferred(retry.execute())
    control_plane.resume_worker()
    assert retry.resume(deferral, fire(deferral)) == 1
    assert [entry.status for entry in starts(control_plane)] == [201]
    assert owner(client, retry.xcoms["session_id"]) == owner_of(retry.ti)


def test_a_worker_killed_while_the_start_is_answered_leaves_the_run_to_the_retry(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    control_plane.pause_worker()
    task = a_task(payload=1, wait_for_completion=False)
    # More often than the client repeats the start.
    control_plane.fail_next("startSession", faults.lose_answer(), times=20)
    with pytest.raises(AirflowException):
        task.start().execute()
    control_plane.clear_faults()
    retry = task.start()
    ids = retry.execute()
    assert [session.id for session in client.sessions.list()] == [ids["session_id"]]
    assert owner(client, ids["session_id"]) == owner_of(retry.ti)


def test_a_retry_returns_a_result_that_came_between_the_tries(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    task = a_task(payload="done", deferrable=True)
    killed = task.start()
    deferred(killed.execute())
    client.runs.wait(killed.xcoms["run_id"], timeout=20)
    client.sessions.open(killed.xcoms["session_id"]).close()
    assert task.start().execute() == "done"
    assert len(starts(control_plane)) == 1


@pytest.mark.parametrize("options", [{}, {"on_retry": "new"}, {"external_id": "mine"}])
def test_a_process_of_a_try_that_was_given_up_takes_no_session_from_the_next_try(
    control_plane: LocalControlPlane, client: HelmrClient, options: dict[str, Any]
) -> None:
    control_plane.pause_worker()
    task = a_task(payload=1, deferrable=True, **options)
    frozen, retry = task.start(), task.start()
    deferral = deferred(retry.execute())
    with pytest.raises(AirflowException, match=r"belongs to try 2 .* and this is try 1: Airflow has given it up"):
        frozen.execute()
    (session,) = client.sessions.list(status="all")
    assert owner(client, session.id) == owner_of(retry.ti)
    control_plane.resume_worker()
    assert retry.resume(deferral, fire(deferral)) == 1


@pytest.mark.parametrize("options", [{}, {"on_retry": "new"}, {"external_id": "mine"}])
def test_a_process_that_was_given_up_before_a_clear_takes_no_session_from_the_next_try(
    control_plane: LocalControlPlane, client: HelmrClient, options: dict[str, Any]
) -> None:
    control_plane.pause_worker()
    task = a_task(payload=1, deferrable=True, **options)
    frozen = task.start()
    task.clear()
    cleared = task.start()
    deferral = deferred(cleared.execute())
    with pytest.raises(AirflowException, match=r"belongs to try 2 .* and this is try 1: Airflow has given it up"):
        frozen.execute()
    (session,) = client.sessions.list(status="all")
    assert owner(client, session.id) == owner_of(cleared.ti)
    control_plane.resume_worker()
    assert cleared.resume(deferral, fire(deferral)) == 1


@pytest.mark.parametrize("ending", ["failed", "cancelled", "expired"])
def test_a_retry_after_a_run_without_success_starts_the_next_session(
    control_plane: LocalControlPlane, client: HelmrClient, ending: str
) -> None:
    if ending != "failed":
        control_plane.pause_worker()
    task = a_task(task="fail" if ending == "failed" else "echo", ttl="1s", deferrable=True, retries=2)
    first = task.start()
    deferral = deferred(first.execute())
    run_id = first.xcoms["run_id"]
    if ending == "cancelled":
        client.runs.cancel(run_id)
    client.runs.wait(run_id, timeout=30)
    with pytest.raises(AirflowException, match=ending):
        first.resume(deferral, {"status": "ended"})
    second = task.start()
    deferred(second.execute())
    assert second.xcoms["external_id"] == f"{task.name}:2"
    assert client.runs.retrieve(second.xcoms["run_id"]).id != run_id


def test_the_seventh_generation_follows_the_sixth(client: HelmrClient) -> None:
    task = a_task(task="fail", retries=9)
    for generation in range(1, 8):
        attempt = task.start()
        with pytest.raises(AirflowException):
            attempt.finish()
        assert attempt.xcoms["external_id"] == f"{task.name}:{generation}"
    assert len(client.sessions.list()) == 7


# Clears


def test_a_task_cleared_while_deferred_continues_with_the_live_run(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    task = a_task(**LIVE, deferrable=True)
    first = task.start()
    deferred(first.execute())
    task.clear()
    second = task.start()
    deferred(second.execute())
    assert second.xcoms["run_id"] == first.xcoms["run_id"]
    assert len(starts(control_plane)) == 1
    stamp = client.sessions.retrieve(second.xcoms["session_id"]).metadata["airflow"]
    assert stamp["owner"] == owner_of(second.ti)
    assert stamp["try_number"] == 2
    assert stamp["epoch"].endswith("/2")


def test_a_task_cleared_while_deferred_whose_run_was_cancelled_with_it_starts_the_next(client: HelmrClient) -> None:
    task = a_task(**LIVE, deferrable=True)
    first = task.start()
    deferred(first.execute())
    client.sessions.open(first.xcoms["session_id"]).cancel()
    task.clear()
    second = task.start()
    deferred(second.execute())
    assert second.xcoms["external_id"] == f"{task.name}:2"


def test_a_task_cleared_after_success_starts_the_next_session(control_plane: LocalControlPlane) -> None:
    task = a_task(payload=1)
    assert task.start().finish() == 1
    task.clear()
    second = task.start()
    assert second.finish() == 1
    assert second.xcoms["external_id"] == f"{task.name}:2"
    assert [entry.status for entry in starts(control_plane)] == [201, 201]


# Races


def test_twelve_simultaneous_tries_start_one_session(control_plane: LocalControlPlane, client: HelmrClient) -> None:
    control_plane.pause_worker()
    task = a_task(wait_for_completion=False)
    tries = [task.start() for _ in range(12)]
    together = threading.Barrier(len(tries))

    def execute(attempt: Any) -> str:
        together.wait()
        try:
            return str(attempt.execute()["session_id"])
        except AirflowException as error:
            # A later try was faster.
            return "given up" if "Airflow has given it up" in str(error) else str(error)

    with ThreadPoolExecutor(len(tries)) as workers:
        used = list(workers.map(execute, tries))
    (session,) = client.sessions.list()
    assert set(used) <= {session.id, "given up"}
    assert used[-1] == session.id
    assert owner(client, session.id) in {owner_of(attempt.ti) for attempt in tries}


def test_a_start_that_another_client_was_faster_with_ends_in_adoption(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    control_plane.pause_worker()
    task = a_task(deferrable=True)
    faster = task.start()
    deferred(faster.execute())
    slower = task.start()
    # As if the other start had come between the lookup and ours.
    control_plane.fail_next("getSessionByExternalId", faults.status(404))
    deferred(slower.execute())
    assert [entry.status for entry in starts(control_plane)] == [201, 200]
    assert slower.xcoms["run_id"] == faster.xcoms["run_id"]
    assert owner(client, slower.xcoms["session_id"]) == owner_of(slower.ti)


@pytest.mark.parametrize("code", ["session_fingerprint_mismatch", "session_terminal"])
def test_a_conflict_at_the_start_only_means_another_lookup(control_plane: LocalControlPlane, code: str) -> None:
    control_plane.fail_next("startSession", faults.status(409, error_code=code))
    assert a_task(payload=5).start().finish() == 5
    assert [entry.status for entry in starts(control_plane)] == [409, 201]


@pytest.mark.parametrize(
    ("first_try", "second_try", "said"),
    [
        ({"payload": {"try": 1}}, {"payload": {"try": 2}}, "differs in payload.try."),
        ({"payload": 1}, {"payload": None}, "differs in payload."),
        ({}, {"max_duration": 60}, "differs in max_duration."),
        ({"retry": {"maxAttempts": 2}}, {"retry": {"maxAttempts": 3}}, "differs in retry.maxAttempts."),
        ({"metadata": {"try": 1}}, {"metadata": {"try": 2}}, "differs in metadata.try."),
        ({"tags": ["one"]}, {"tags": ["two"]}, "differs in tags."),
        ({"payload": 1}, {"task": "work", "payload": 2, "tags": ["x"]}, "differs in task, payload, tags."),
    ],
)
def test_a_live_run_that_was_started_with_something_else_is_adopted_with_a_warning(
    control_plane: LocalControlPlane,
    task_log: Callable[[], str],
    first_try: dict[str, Any],
    second_try: dict[str, Any],
    said: str,
) -> None:
    control_plane.pause_worker()
    task = a_task(**first_try, deferrable=True)
    first = task.start()
    deferred(first.execute())
    task.make = a_task(**second_try, deferrable=True).make
    second = task.start()
    deferred(second.execute())
    assert second.xcoms["run_id"] == first.xcoms["run_id"]
    assert said in task_log()


def test_a_live_run_that_was_started_with_the_same_is_adopted_without_a_warning(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    control_plane.pause_worker()
    options: dict[str, Any] = {
        "retry": {"maxAttempts": 2, "backoff": {"factor": 2}},
        "max_duration": 60,
        "metadata": {"ticket": "T-1"},
        "tags": ["b", " a "],
        "priority": 3,
        "deferrable": True,
    }
    task = a_task(payload={"b": [1, {"x": None}], "a": 1.0}, **options)
    deferred(task.start().execute())
    task.make = a_task(payload={"a": 1.0, "b": [1, {"x": None}]}, **options).make
    task_log()
    deferred(task.start().execute())
    assert "differs in" not in task_log()


@dataclass
class Release:
    """A payload that is rendered as JSON where it is sent."""

    name: str


def test_a_live_run_whose_payload_was_a_dataclass_is_adopted(
    control_plane: LocalControlPlane, task_log: Callable[[], str]
) -> None:
    control_plane.pause_worker()
    task = a_task(payload={"release": Release("3.1")}, deferrable=True)
    first = task.start()
    deferred(first.execute())
    task_log()
    second = task.start()
    deferred(second.execute())
    assert second.xcoms["run_id"] == first.xcoms["run_id"]
    assert "differs in" not in task_log()


def a_starter(client: HelmrClient, attempt: Any) -> SessionStarter:
    return SessionStarter(
        client,
        stamp=OwnershipMetadata.of(attempt.ti, attempt.of.dag_run),
        name=lambda generation: f"{attempt.of.name}:{generation}",
        options=attempt.operator._options(),
        wait=lambda _: None,
        on_owned=lambda _: None,
        log=logging.getLogger(__name__),
    )


def test_a_session_that_ends_while_it_is_adopted_is_seen_as_ended(client: HelmrClient) -> None:
    task = a_task(**LIVE, deferrable=True)
    deferred(task.start().execute())
    live = look_up(client, f"{task.name}:1")
    assert live is not None
    assert live.live
    client.sessions.open(live.session_id).cancel()
    adopted = a_starter(client, task.start())._step(Adopt(live))
    assert adopted is not None
    assert adopted.run_status == "cancelled"


def test_adopting_keeps_what_the_author_and_others_have_written(client: HelmrClient) -> None:
    task = a_task(**LIVE, metadata={"ticket": "T-1"}, deferrable=True)
    first = task.start()
    deferred(first.execute())
    session = client.sessions.retrieve(first.xcoms["session_id"])
    client.sessions.update(session.id, metadata={**session.metadata, "state": "reviewed"})
    deferred(task.start().execute())
    metadata = client.sessions.retrieve(session.id).metadata
    assert {name: metadata[name] for name in metadata if name != "airflow"} == {"ticket": "T-1", "state": "reviewed"}


# When on_retry is "new"


def test_on_retry_new_cancels_the_live_session_and_starts_the_next(client: HelmrClient) -> None:
    task = a_task(**LIVE, deferrable=True, on_retry="new")
    first = task.start()
    deferred(first.execute())
    second = task.start()
    deferred(second.execute())
    assert client.sessions.retrieve(first.xcoms["session_id"]).status == "cancelled"
    assert client.runs.retrieve(first.xcoms["run_id"]).status == "cancelled"
    assert second.xcoms["external_id"] == f"{task.name}:2"


def test_on_retry_new_does_not_take_over_a_result(control_plane: LocalControlPlane) -> None:
    task = a_task(payload=1, on_retry="new")
    assert task.start().finish() == task.start().finish() == 1
    assert [entry.status for entry in starts(control_plane)] == [201, 201]


def test_on_retry_new_keeps_its_own_start_when_the_answer_was_lost(
    control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    control_plane.fail_next("startSession", faults.lose_answer())
    assert a_task(payload=1, on_retry="new").start().finish() == 1
    assert len(client.sessions.list()) == 1


# External ids of the author's own


def test_two_tasks_with_one_external_id_share_one_session(control_plane: LocalControlPlane) -> None:
    one = a_task(payload=1, external_id="release 1.4")
    other = a_task(task_id="other", payload=1, external_id="release 1.4", run_id="another day")
    assert one.start().finish() == other.start().finish() == 1
    assert [entry.status for entry in starts(control_plane)] == [201]


def test_a_closed_session_of_the_author_s_still_gives_its_result(client: HelmrClient) -> None:
    task = a_task(payload=1, external_id="mine")
    first = task.start()
    first.finish()
    client.sessions.open(first.xcoms["session_id"]).close()
    assert task.start().finish() == 1


def test_a_session_of_another_client_is_adopted(client: HelmrClient) -> None:
    started = client.sessions.start("work", LIVE["payload"], external_id="mine", metadata={"by": "hand"})
    attempt = a_task(**LIVE, external_id="mine", deferrable=True).start()
    deferred(attempt.execute())
    assert attempt.xcoms["run_id"] == started.run.id
    assert owner(client, started.session.id) == owner_of(attempt.ti)


def test_an_external_id_whose_run_failed_fails_for_good_and_says_what_to_do() -> None:
    task = a_task(task="fail", external_id="mine", retries=5)
    with pytest.raises(AirflowException, match="failed"):
        task.start().finish()
    with pytest.raises(AirflowFailException, match=r"template it.*HelmrSendInputOperator") as refused:
        task.start().finish()
    assert "\n" not in str(refused.value)


def test_the_first_turn_counts_and_later_ones_do_not(client: HelmrClient, control_plane: LocalControlPlane) -> None:
    task = a_task(task="wait-for-input", external_id="mine", deferrable=True)
    attempt = task.start()
    deferral = deferred(attempt.execute())
    send(control_plane, "mine", {"n": 1})
    first = client.runs.wait(attempt.xcoms["run_id"], timeout=20)
    send(control_plane, "mine", {"n": 2})
    assert attempt.resume(deferral, {"status": "ended"}) == first.output
    retry = task.start()
    assert retry.execute()["message"] == {"n": 1}
    assert client.sessions.retrieve(external_id="mine").current_run_id != retry.xcoms["run_id"]


# Cancelling only what is ours


def claim_of(attempt: Any, **members: Any) -> OwnedSession:
    return OwnedSession(
        **{"external_id": attempt.xcoms["external_id"], "owner": owner_of(attempt.ti), "named": True, **members}
    )


def test_what_we_named_is_cancelled_as_a_session(client: HelmrClient) -> None:
    attempt = a_task(**LIVE, deferrable=True).start()
    deferred(attempt.execute())
    assert run_steps(client, claim_of(attempt).cancel(reason="test", log=logging.getLogger(__name__)))
    assert client.sessions.retrieve(attempt.xcoms["session_id"]).status == "cancelled"


def test_what_another_try_has_adopted_is_left_alone(client: HelmrClient) -> None:
    task = a_task(**LIVE, deferrable=True)
    first = task.start()
    deferred(first.execute())
    deferred(task.start().execute())
    assert not run_steps(client, claim_of(first).cancel(reason="test", log=logging.getLogger(__name__)))
    assert client.sessions.retrieve(first.xcoms["session_id"]).status == "open"


def test_of_an_author_s_session_only_the_run_is_cancelled_and_pending_input_is_reported(
    control_plane: LocalControlPlane, client: HelmrClient, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = a_task(**LIVE, external_id="mine", deferrable=True).start()
    deferred(attempt.execute())
    with caplog.at_level(logging.WARNING):
        claim = claim_of(attempt, named=False, run_id=attempt.xcoms["run_id"])
        assert run_steps(client, claim.cancel(reason="test", log=logging.getLogger(__name__)))
    assert client.runs.retrieve(attempt.xcoms["run_id"]).status == "cancelled"
    assert client.sessions.retrieve(external_id="mine").status == "open"
    assert "pending input" not in caplog.text

    attempt = a_task(task="wait-for-input", external_id="other", deferrable=True).start()
    control_plane.pause_worker()
    deferred(attempt.execute())
    send(control_plane, "other", {"n": 1})
    with caplog.at_level(logging.WARNING):
        claim = claim_of(attempt, named=False, run_id=attempt.xcoms["run_id"])
        assert run_steps(client, claim.cancel(reason="test", log=logging.getLogger(__name__)))
    assert "pending input" in caplog.text


def test_what_was_never_started_needs_no_cancel(client: HelmrClient) -> None:
    claim = OwnedSession(external_id="nothing there", owner="me", named=True)
    assert not run_steps(client, claim.cancel(reason="test", log=logging.getLogger(__name__)))


def send(control_plane: LocalControlPlane, external_id: str, data: Any) -> None:
    """Send input to a session by name, as another program would."""
    from urllib.request import Request, urlopen

    request = Request(
        f"{control_plane.url}/api/sessions/by-external-id/inputs/messages?external_id={external_id}",
        data=json.dumps({"data": data}).encode(),
        headers={"Authorization": f"Bearer {control_plane.api_key}"},
    )
    with urlopen(request, timeout=10) as answer:
        assert answer.status == 201
