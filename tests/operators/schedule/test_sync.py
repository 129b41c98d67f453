"""Syncing schedules: everything declared becomes true, nothing else is touched, and what fails is made good later."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowException, AirflowFailException

from helmr_provider.client._wire.schedule_serialization import ScheduleRunOptions
from helmr_provider.local import DeclaredSchedule, task
from helmr_provider.local.testing.faults import lose_answer
from helmr_provider.operators.schedule.sync import HelmrSyncSchedulesOperator
from helmr_provider.schedules._check import HelmrSchedule
from tests.support.task_attempts import TaskRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helmr_provider.client import HelmrClient
    from helmr_provider.local import LocalControlPlane, TaskContext

DAILY: dict[str, Any] = {"deduplication_key": "own.daily", "task": "release-summary", "cron": "0 6 * * *"}
WEEKLY: dict[str, Any] = {
    "deduplication_key": "own.weekly",
    "task": "echo",
    "cron": "0 7 * * 1",
    "timezone": "Asia/Tokyo",
}
CHANGING = {"createSchedule", "updateSchedule", "activateSchedule", "deactivateSchedule", "deleteSchedule"}


class Syncs:
    """The runs of one DAG whose only task syncs; each finds the XComs of those before."""

    def __init__(self, control_plane: LocalControlPlane) -> None:
        self._control_plane = control_plane
        self._xcoms: dict[str, Any] = {}

    def run(self, schedules: Any, *, rendered: Any = None, **options: Any) -> dict[str, Any]:
        run = TaskRun(lambda: HelmrSyncSchedulesOperator(task_id="sync", schedules=schedules, **options)).start()
        vars(run.operator).update(rendered or {})

        def pull(*, task_ids: str, key: str, map_indexes: int, include_prior_dates: bool) -> Any:
            assert (task_ids, map_indexes, include_prior_dates) == ("sync", -1, True)
            return self._xcoms.get(key)

        run.ti.xcom_pull = pull
        self._control_plane.clear_journal()
        try:
            result: dict[str, Any] = run.execute()
        finally:
            self._xcoms |= run.xcoms
        copy: dict[str, Any] = json.loads(json.dumps(result))
        return copy

    def forget(self) -> None:
        self._xcoms.clear()

    @property
    def changes(self) -> list[str]:
        """The changing requests of the last run."""
        return [entry.operation for entry in self._control_plane.journal if entry.operation in CHANGING]


@pytest.fixture
def syncs(control_plane: LocalControlPlane, helmr_connection: str) -> Syncs:
    return Syncs(control_plane)


def present(client: HelmrClient) -> dict[str, Any]:
    return {str(schedule.deduplication_key): schedule for schedule in client.schedules.list()}


def test_what_is_declared_is_created_and_a_second_run_changes_nothing(
    syncs: Syncs, client: HelmrClient, task_log: Callable[[], str]
) -> None:
    declared = [DAILY, HelmrSchedule(**WEEKLY, active=False, options=ScheduleRunOptions(ttl="5m"))]
    result = syncs.run(declared)
    assert result["counts"] == {"create": 2, "update": 0, "activate": 0, "deactivate": 0, "delete": 0, "keep": 0}
    assert [len(change["next_fires"]) for change in result["changes"]] == [3, 0]
    weekly = present(client)["own.weekly"]
    assert (weekly.task, weekly.timezone, weekly.active) == ("echo", "Asia/Tokyo", False)
    said = task_log()
    assert "2 create" in said
    assert "timezone: Asia/Tokyo" in said

    again = syncs.run(declared)
    assert (again["changes"], again["unchanged"], syncs.changes) == ([], ["own.daily", "own.weekly"], [])
    assert "There was nothing to do." in task_log()


def test_every_difference_is_made_good(syncs: Syncs, client: HelmrClient) -> None:
    syncs.run([DAILY, WEEKLY])
    result = syncs.run([{**DAILY, "cron": "0 5 * * *", "external_id": "crm"}, {**WEEKLY, "active": False}])
    assert [(change["action"], change["fields"]) for change in result["changes"]] == [
        ("update", {"cron": ["0 6 * * *", "0 5 * * *"], "external_id": [None, "crm"]}),
        ("deactivate", {"active": [True, False]}),
    ]
    assert syncs.changes == ["updateSchedule", "deactivateSchedule"]
    syncs.run([DAILY, {**WEEKLY, "active": True}])
    assert syncs.changes == ["updateSchedule", "activateSchedule"]
    daily = present(client)["own.daily"]
    assert (daily.cron, daily.external_id) == ("0 6 * * *", None)


def test_a_schedule_that_was_paused_elsewhere_stays_paused_unless_active_is_declared(
    syncs: Syncs, client: HelmrClient
) -> None:
    syncs.run([DAILY])
    client.schedules.deactivate(present(client)["own.daily"])
    assert syncs.run([DAILY])["changes"] == []
    syncs.run([{**DAILY, "cron": "0 5 * * *"}])
    assert not present(client)["own.daily"].active
    assert [change["action"] for change in syncs.run([{**DAILY, "cron": "0 5 * * *", "active": True}])["changes"]] == [
        "activate"
    ]


def test_options_are_set_once_and_again_only_after_another_change_of_the_schedule(
    syncs: Syncs, client: HelmrClient
) -> None:
    declared = [{**DAILY, "options": {"priority": 3}}]
    syncs.run(declared)
    syncs.run(declared)
    assert syncs.changes == []
    client.schedules.update(present(client)["own.daily"], task="release-summary", cron="0 6 * * *")
    result = syncs.run(declared)
    assert result["changes"][0]["fields"] == {"options": ["(not shown by the API)", {"priority": 3}]}
    syncs.run(declared)
    assert syncs.changes == []
    syncs.forget()
    syncs.run(declared)
    assert syncs.changes == ["updateSchedule"], "what is not known is set"


def test_a_fire_is_no_change(syncs: Syncs, control_plane: LocalControlPlane, client: HelmrClient) -> None:
    control_plane.set_clock("manual")
    declared = [{**DAILY, "cron": "* * * * *", "options": {"priority": 3}}]
    syncs.run(declared)
    control_plane.advance("2m")
    control_plane.sweep()
    assert present(client)["own.daily"].last_fire_at is not None
    syncs.run(declared)
    assert syncs.changes == []


def test_pruning_deletes_what_is_owned_and_not_declared_and_nothing_else(
    syncs: Syncs, control_plane: LocalControlPlane, client: HelmrClient
) -> None:
    @task("own.report", schedules=[DeclaredSchedule("hourly", "0 * * * *", "UTC")])
    async def report(context: TaskContext, payload: Any) -> None:
        """Do nothing."""

    control_plane.deploy(report)
    for key in ("own.old", "own", "other.old"):
        client.schedules.create(deduplication_key=key, task="echo", cron="0 6 * * *")
    result = syncs.run([DAILY], owned_prefix="own.", prune=True)
    assert [(change["action"], change["deduplication_key"]) for change in result["changes"]] == [
        ("create", "own.daily"),
        ("delete", "own.old"),
    ]
    assert sorted(str(schedule.deduplication_key) for schedule in client.schedules.list()) == [
        *("None", "other.old", "own", "own.daily")
    ], "the schedule from the task's source, what others own, and what is declared"
    assert syncs.run([], owned_prefix="own.", prune=True, allow_empty=True)["counts"]["delete"] == 1


@pytest.mark.parametrize("schedules", [[], "[]", "schedules: []", lambda **_: []], ids=["list", "text", "file", "call"])
def test_pruning_with_nothing_declared_is_refused_before_any_change(
    syncs: Syncs, client: HelmrClient, schedules: Any
) -> None:
    client.schedules.create(deduplication_key="own.old", task="echo", cron="0 6 * * *")
    with pytest.raises(AirflowFailException, match="allow_empty=True"):
        syncs.run(schedules, owned_prefix="own.", prune=True)
    assert syncs.changes == []
    assert set(present(client)) == {"own.old"}


def test_a_prefix_owns_keys_only_up_to_a_separator(syncs: Syncs, client: HelmrClient) -> None:
    for key in ("acme", "acme.old", "acme2.nightly", "acme-x.daily", "acme_y"):
        client.schedules.create(deduplication_key=key, task="echo", cron="0 6 * * *")
    syncs.run([{**DAILY, "deduplication_key": "acme.daily"}], owned_prefix="acme", prune=True)
    assert set(present(client)) == {"acme.daily", "acme2.nightly", "acme-x.daily", "acme_y"}
    syncs.run([{**DAILY, "deduplication_key": "acme-x.new"}], owned_prefix="acme-", prune=True)
    assert set(present(client)) == {"acme.daily", "acme2.nightly", "acme-x.new", "acme_y"}


def test_a_key_outside_the_prefix_is_refused_with_the_separator_to_use(syncs: Syncs) -> None:
    with pytest.raises(AirflowFailException, match=r"must start with 'acme\.'; for another separator"):
        syncs.run([{**DAILY, "deduplication_key": "acme-x.daily"}], owned_prefix="acme")
    assert syncs.changes == []


@pytest.mark.parametrize("prefix", ["", " ", "None"])
def test_a_prefix_that_renders_to_nothing_prunes_nothing(syncs: Syncs, client: HelmrClient, prefix: str) -> None:
    client.schedules.create(deduplication_key="other.old", task="echo", cron="0 6 * * *")
    with pytest.raises(AirflowFailException, match="owned_prefix"):
        syncs.run([], owned_prefix="{{ x }}", rendered={"owned_prefix": prefix}, prune=True, allow_empty=True)
    assert set(present(client)) == {"other.old"}


def test_more_deletions_than_allowed_are_refused_before_any_change(syncs: Syncs, client: HelmrClient) -> None:
    for number in range(3):
        client.schedules.create(deduplication_key=f"own.{number}", task="echo", cron="0 6 * * *")
    with pytest.raises(AirflowFailException, match=r"3 schedules, more than max_deletes=2: own\.0, own\.1, own\.2"):
        syncs.run([DAILY], owned_prefix="own.", prune=True, max_deletes=2)
    assert syncs.changes == []
    assert syncs.run([DAILY], owned_prefix="own.", prune=True, max_deletes=3)["counts"]["delete"] == 3
    with pytest.raises(ValueError, match="max_deletes"):
        HelmrSyncSchedulesOperator(task_id="sync", schedules=[], max_deletes=-1)


def test_without_pruning_nothing_is_deleted(syncs: Syncs, client: HelmrClient) -> None:
    client.schedules.create(deduplication_key="own.old", task="echo", cron="0 6 * * *")
    syncs.run([DAILY], owned_prefix="own.")
    assert set(present(client)) == {"own.old", "own.daily"}


def test_pruning_needs_a_prefix() -> None:
    with pytest.raises(ValueError, match="owned_prefix"):
        HelmrSyncSchedulesOperator(task_id="sync", schedules=[], prune=True)


def test_an_environment_that_cannot_be_seen_whole_is_not_pruned_but_synced(syncs: Syncs, client: HelmrClient) -> None:
    syncs.run([{**DAILY, "active": False, "options": {"priority": 1}}])
    for number in range(200):
        client.schedules.create(deduplication_key=f"newer-{number}", task="echo", cron="0 6 * * *")
    with pytest.raises(AirflowFailException, match="200 schedules or more"):
        syncs.run([DAILY], owned_prefix="own.", prune=True)
    assert syncs.changes == []
    # What an earlier sync has made is looked up by its id.
    result = syncs.run([{**DAILY, "active": True, "options": {"priority": 1}}])
    assert [change["action"] for change in result["changes"]] == ["activate"]


def test_a_preview_shows_and_changes_nothing(syncs: Syncs, client: HelmrClient, task_log: Callable[[], str]) -> None:
    for value in (True, "True"):
        result = syncs.run([DAILY], preview_only=value)
        assert (result["preview_only"], result["dry_run"], result["counts"]["create"]) == (True, True, 1)
        assert "would change: 1 create" in task_log()
    assert client.schedules.list() == []
    assert syncs.run([DAILY], preview_only="false")["preview_only"] is False
    with pytest.raises(AirflowFailException, match="preview_only must be true or false"):
        syncs.run([DAILY], preview_only="maybe")


def test_all_mistakes_are_reported_together_before_any_request(syncs: Syncs, control_plane: LocalControlPlane) -> None:
    with pytest.raises(AirflowFailException) as failure:
        syncs.run([{**DAILY, "cron": "61 * * * *", "timezone": "Mars"}, {**WEEKLY, "colour": "red"}, DAILY])
    assert len(str(failure.value).splitlines()) == 5
    assert "4 problems" in str(failure.value)
    assert control_plane.journal == []


def test_what_is_refused_does_not_hold_up_the_others_and_a_later_run_makes_it_good(
    syncs: Syncs, client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    client.schedules.create(deduplication_key="own.old", task="echo", cron="0 6 * * *")
    missing = {"deduplication_key": "own.missing", "task": "not-deployed", "cron": "0 6 * * *"}
    declared, options = [missing, {**DAILY, "options": {"priority": 1}}], {"owned_prefix": "own.", "prune": True}
    with pytest.raises(AirflowFailException) as failure:
        syncs.run(declared, **options)
    lines = str(failure.value).splitlines()
    assert lines[0].startswith("2 of 3 changes were made")
    assert lines[1:3] == ["  done: create own.daily", "  done: delete own.old"]
    assert lines[3].startswith("  failed: create own.missing: ")
    assert "not-deployed" in lines[3]

    @task("not-deployed")
    async def deployed_now(context: TaskContext, payload: Any) -> None:
        """Do nothing."""

    control_plane.deploy(deployed_now)
    assert [change["action"] for change in syncs.run(declared, **options)["changes"]] == ["create"]
    assert syncs.run(declared, **options)["changes"] == []


def test_an_outage_in_the_middle_stops_says_what_is_left_and_is_worth_a_retry(
    syncs: Syncs, client: HelmrClient, control_plane: LocalControlPlane
) -> None:
    control_plane.fail_next("createSchedule", lose_answer(), times=10)
    with pytest.raises(AirflowException) as failure:
        syncs.run([DAILY, WEEKLY])
    assert not isinstance(failure.value, AirflowFailException)
    assert "0 of 2 changes were made" in str(failure.value)
    assert "not tried: create own.weekly" in str(failure.value)
    control_plane.clear_faults()
    # The answer was lost, but not the schedule.
    assert [change["deduplication_key"] for change in syncs.run([DAILY, WEEKLY])["changes"]] == ["own.weekly"]


def test_a_key_without_the_right_to_change_fails_for_good_at_the_first_change(
    connect: Callable[..., str], control_plane: LocalControlPlane
) -> None:
    connect(host=control_plane.url, password=control_plane.create_key(["runs:read"]))
    with pytest.raises(AirflowFailException, match=r"not tried: create own\.weekly"):
        Syncs(control_plane).run([DAILY, WEEKLY])


def test_a_schedule_that_was_deleted_under_our_hands_is_worth_a_retry(
    syncs: Syncs, control_plane: LocalControlPlane
) -> None:
    syncs.run([DAILY])
    control_plane.fail_next("updateSchedule", 404)
    with pytest.raises(AirflowException) as failure:
        syncs.run([{**DAILY, "cron": "0 5 * * *"}])
    assert not isinstance(failure.value, AirflowFailException)


def test_a_function_declares_too(syncs: Syncs) -> None:
    def declared(context: Any, jinja_env: Any) -> list[dict[str, Any]]:
        return [{**DAILY, "external_id": context["ti"].dag_id}]

    assert syncs.run(declared)["changes"][0]["fields"]["external_id"] == [None, "nightly"]


def test_a_path_is_read_as_it_is_when_the_task_runs(syncs: Syncs, tmp_path: Path) -> None:
    file = tmp_path / "schedules.json"
    with pytest.raises(AirflowFailException, match=r"schedules\.json"):
        syncs.run(file)
    file.write_text(json.dumps({"schedules": [{**DAILY, "crom": "x"}]}))
    with pytest.raises(AirflowFailException, match=r"schedules\.json\[0\] \(own\.daily\): crom is not a member"):
        syncs.run(file)
    file.write_text(json.dumps([DAILY]))
    assert syncs.run(file)["counts"]["create"] == 1


def test_the_name_of_a_file_is_a_template_beside_the_dag(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "- deduplication_key: own.daily\n  task: echo\n  cron: '0 6 * * *'\n  external_id: '{{ ds }}'\n  oops: 1\n"
    )
    with DAG("synced", schedule=None, template_searchpath=str(tmp_path)):
        operator = HelmrSyncSchedulesOperator(task_id="sync", schedules="plan.yaml", owned_prefix="own.")
    ti = SimpleNamespace(task_id="sync", map_index=-1, xcom_pull=lambda **_: None)
    context: Any = {"ds": "2026-11-24", "ti": ti}
    operator.render_template_fields(context)
    assert "2026-11-24" in str(operator.schedules)
    with pytest.raises(AirflowFailException, match=r"plan\.yaml\[0\] \(own\.daily\): oops is not a member"):
        operator._declared(context)


def test_the_name_of_a_file_that_was_not_found_is_not_taken_for_schedules(syncs: Syncs) -> None:
    with pytest.raises(AirflowFailException, match=r"There is no file gone\.yaml beside the DAG"):
        syncs.run("gone.yaml")


@pytest.mark.parametrize("text", ["", "# nothing yet"])
def test_an_empty_text_is_a_mistake_and_prunes_nothing(text: str, syncs: Syncs, client: HelmrClient) -> None:
    client.schedules.create(deduplication_key="own.old", task="echo", cron="0 6 * * *")
    with pytest.raises(AirflowFailException, match="a list of schedules is needed, not nothing"):
        syncs.run(text, owned_prefix="own.", prune=True)
    assert set(present(client)) == {"own.old"}


def test_without_xcom_nothing_is_remembered(syncs: Syncs) -> None:
    declared = [{**DAILY, "options": {"priority": 3}}]
    for operation in ("createSchedule", "updateSchedule", "updateSchedule"):
        syncs.run(declared, do_xcom_push=False)
        assert syncs.changes == [operation]
