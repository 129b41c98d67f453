"""Names, ownership and the start of sessions: a public format, and "started at most once" under every interleaving."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider._common.errors import IdentityError
from helmr_provider._sessions.epoch import epoch_of
from helmr_provider._sessions.identity import (
    TERMINAL,
    Adopt,
    Compare,
    FoundSession,
    Identity,
    LookUp,
    Outcome,
    OwnershipMetadata,
    Replace,
    Start,
    find_or_start,
    find_or_start_named,
    highest_generation,
    owner_of,
    ownership_member,
    refuse_reserved,
)

if TYPE_CHECKING:
    from helmr_provider._sessions.identity import StartSteps, Step


def identity(**members: Any) -> Identity:
    return Identity(**{"prefix": "airflow", "dag_id": "d", "run_id": "r", "task_id": "t", **members})


# Names are stored in control planes for ever. A release that changes one of these lines starts every session twice.
GOLDEN = {
    identity(dag_id="nightly", run_id="manual__2026-11-23T17:28:10+00:00", task_id="group.summary"): {
        1: "airflow:nightly:manual__2026-11-23T17:28:10+00:00:group.summary:-1:1",
        12: "airflow:nightly:manual__2026-11-23T17:28:10+00:00:group.summary:-1:12",
    },
    identity(prefix="team-b", map_index=7): {3: "team-b:d:r:t:7:3"},
    identity(run_id="x" * 600): {
        1: f"airflow:d:{'x' * 430}~d780c138c8b4ecf1989530d7cb1ea158:1",
        10: f"airflow:d:{'x' * 430}~d780c138c8b4ecf1989530d7cb1ea158:10",
    },
    identity(dag_id="dd", run_id="é" * 300): {1: f"airflow:dd:{'é' * 214}~9c0bd2d90db150be0447814b259786f6:1"},
}


@pytest.mark.parametrize(("who", "names"), GOLDEN.items(), ids=["short", "mapped", "long", "unicode"])
def test_names_never_change(who: Identity, names: dict[int, str]) -> None:
    assert {generation: who.external_id(generation) for generation in names} == names


EPOCH = "2026-11-23T17:28:11.123456+00:00/1"
# Stored with the input records: another key in a retry sends the record twice.
GOLDEN_INPUT_KEYS = {
    identity(dag_id="nightly", run_id="manual__2026-11-23T17:28:10+00:00", task_id="group.ask"): (
        "airflow:nightly:manual__2026-11-23T17:28:10+00:00:group.ask:-1:2026-11-23T17:28:11.123456+00:00/1"
    ),
    identity(prefix="team-b", map_index=7): "team-b:d:r:t:7:2026-11-23T17:28:11.123456+00:00/1",
    identity(run_id="x" * 600): (
        f"airflow:d:{'x' * 430}~d780c138c8b4ecf1989530d7cb1ea158:2026-11-23T17:28:11.123456+00:00/1"
    ),
}


@pytest.mark.parametrize(("who", "key"), GOLDEN_INPUT_KEYS.items(), ids=["short", "mapped", "long"])
def test_input_keys_never_change_and_fit(who: Identity, key: str) -> None:
    assert who.input_key(EPOCH) == key
    assert len(who.input_key("2026-11-23T17:28:11.123456+00:00/99999").encode()) <= 512


def test_a_name_of_exactly_512_bytes_is_written_out_and_one_more_is_not() -> None:
    room = 512 - len(identity(run_id="").external_id(1))
    assert identity(run_id="x" * room).external_id(1) == f"airflow:d:{'x' * room}:t:-1:1"
    assert "~" in identity(run_id="x" * (room + 1)).external_id(1)
    assert "~" in identity(run_id="x" * room).external_id(10)


words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=300)
ids = st.from_regex(r"[a-zA-Z0-9_.\-]{1,120}", fullmatch=True)
identities = st.builds(
    Identity, prefix=ids, dag_id=ids, run_id=words, task_id=ids, map_index=st.integers(min_value=-1, max_value=5000)
)


@given(identities, st.integers(min_value=1, max_value=10**6))
def test_every_name_fits_and_ends_in_its_generation(who: Identity, generation: int) -> None:
    name = who.external_id(generation)
    assert len(name.encode()) <= 512
    assert name.endswith(f":{generation}")


@given(identities, identities, st.integers(min_value=1, max_value=40), st.integers(min_value=1, max_value=40))
def test_different_sessions_have_different_names(one: Identity, other: Identity, first: int, second: int) -> None:
    assert (one.external_id(first) == other.external_id(second)) == ((one, first) == (other, second))


def task_instance(**members: Any) -> Any:
    return SimpleNamespace(
        **{"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "try_number": 2, "max_tries": 3, **members}
    )


def test_on_airflow_3_the_owner_is_the_try_s_own_id() -> None:
    assert owner_of(task_instance(id="0193-uuid")) == "0193-uuid"


def test_on_airflow_2_the_owner_is_the_full_key_of_the_try() -> None:
    assert owner_of(task_instance(map_index=4)) == "d/r/t/4/2"


def test_an_epoch_ends_with_a_clear_and_not_with_a_retry() -> None:
    started = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
    assert epoch_of(started, 3) == "2026-11-23T17:00:00+00:00/3"
    assert epoch_of(started.astimezone(timezone(timedelta(hours=2))), 3) == epoch_of(started, 3)
    assert epoch_of(started, 4) != epoch_of(started, 3)
    assert epoch_of(started + timedelta(seconds=1), 3) != epoch_of(started, 3)
    assert epoch_of(None, 0) == "/0"


def test_a_stamp_has_the_members_that_others_read() -> None:
    stamp = OwnershipMetadata.of(
        task_instance(id="ti", log_url="https://airflow.example/x"),
        SimpleNamespace(start_date=datetime(2026, 11, 23, tzinfo=UTC)),
    )
    assert stamp.onto({"ticket": 7, "airflow": {"v": 1, "owner": "somebody"}}) == {
        "ticket": 7,
        "airflow": {
            "v": 1,
            "owner": "ti",
            "epoch": "2026-11-23T00:00:00+00:00/3",
            "dag_id": "d",
            "run_id": "r",
            "task_id": "t",
            "map_index": -1,
            "try_number": 2,
            "url": "https://airflow.example/x",
        },
    }


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.integers())))
def test_a_stamp_leaves_everything_else_as_it_was(metadata: dict[str, Any]) -> None:
    stamp = OwnershipMetadata.of(task_instance(id="ti"), None)
    before = json.dumps(metadata)
    written = stamp.onto(metadata)
    assert ownership_member(written, "owner") == "ti"
    assert {**written, "airflow": None} == {**metadata, "airflow": None}
    assert json.dumps(metadata) == before


@pytest.mark.parametrize("metadata", [None, {}, {"airflow": None}, {"airflow": "text"}, {"airflow": {"owner": 7}}])
def test_what_is_not_one_of_our_stamps_has_no_owner(metadata: Any) -> None:
    assert ownership_member(metadata, "owner") is None


def test_an_author_s_metadata_may_not_have_the_stamp_s_member() -> None:
    with pytest.raises(IdentityError, match="'airflow'") as refused:
        refuse_reserved({"airflow": {}})
    assert refused.value.permanent
    refuse_reserved({"Airflow": 1})
    refuse_reserved(None)


def seen(generation: int = 1, status: str = "running", **members: Any) -> FoundSession:
    return FoundSession(
        **{
            "generation": generation,
            "session_id": f"s{generation}",
            "run_id": f"r{generation}",
            "run_status": status,
            "owner": "earlier",
            "epoch": "now",
            **members,
        }
    )


def steps(walking: StartSteps, *answers: FoundSession | None) -> tuple[list[Step], Outcome | None]:
    """Answer the steps; returns the steps, and the outcome if the answers were enough."""
    taken = [next(walking)]
    for answer in answers:
        try:
            taken.append(walking.send(answer))
        except StopIteration as end:
            return taken, end.value
    return taken, None


def start_steps(**options: Any) -> StartSteps:
    return find_or_start(**{"owner": "me", "epoch": "now", **options})


def test_the_first_try_asks_once_and_starts() -> None:
    new = seen(status="queued", owner="me")
    assert steps(start_steps(), None, new) == ([LookUp(1), Start(1)], Outcome(seen=new, started=True))


@pytest.mark.parametrize("status", ["queued", "running", "waiting", "a status of a later server"])
def test_a_live_run_is_adopted(status: str) -> None:
    live = seen(status=status)
    assert steps(start_steps(), live, None, live) == (
        [LookUp(1), LookUp(2), Adopt(live)],
        Outcome(seen=live, started=False),
    )


def test_a_run_that_was_cancelled_while_it_was_adopted_makes_way_for_the_next() -> None:
    taken, _ = steps(start_steps(), seen(), None, seen(status="cancelled"))
    assert taken[-1] == Start(2)


@pytest.mark.parametrize("status", ["succeeded", "failed", "expired"])
def test_a_run_that_ended_otherwise_while_it_was_adopted_is_this_try_s_own(status: str) -> None:
    ended = seen(status=status)
    assert steps(start_steps(), seen(), None, ended)[1] == Outcome(seen=ended, started=False)


def test_a_success_is_taken_over_within_an_epoch_and_not_after_a_clear() -> None:
    assert steps(start_steps(), seen(status="succeeded"), None)[1] is not None
    assert steps(start_steps(), seen(status="succeeded", epoch="before the clear"), None)[0][-1] == Start(2)
    assert steps(start_steps(), seen(status="succeeded", epoch=None), None)[0][-1] == Start(2)


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_a_run_that_ended_without_success_makes_way_for_the_next(status: str) -> None:
    assert steps(start_steps(), seen(status=status), None)[0][-1] == Start(2)


@pytest.mark.parametrize("status", ["failed", "expired"])
def test_a_run_whose_end_counts_as_a_result_is_taken_over_within_an_epoch(status: str) -> None:
    results = {"succeeded", status}
    assert steps(start_steps(results=results), seen(status=status), None)[1] is not None
    assert steps(start_steps(results=results), seen(status=status, epoch="before the clear"), None)[0][-1] == Start(2)


def test_a_cancelled_run_makes_way_even_if_it_would_count() -> None:
    # Its cancel may have been meant for the try that was ended with it.
    assert steps(start_steps(results={"succeeded", "cancelled"}), seen(status="cancelled"), None)[0][-1] == Start(2)


def test_a_start_that_another_client_was_faster_with_is_looked_up() -> None:
    live = seen(owner="somebody")
    assert steps(start_steps(), None, None, live, None, live) == (
        [LookUp(1), Start(1), LookUp(1), LookUp(2), Adopt(live)],
        Outcome(seen=live, started=False),
    )


def test_on_retry_new_replaces_what_an_earlier_try_left_running() -> None:
    live = seen()
    assert steps(start_steps(on_retry="new"), live, None, None)[0] == [LookUp(1), LookUp(2), Replace(live), Start(2)]


def test_on_retry_new_starts_anew_even_after_a_success() -> None:
    assert steps(start_steps(on_retry="new"), seen(status="succeeded"), None)[0][-1] == Start(2)


def test_on_retry_new_keeps_what_this_very_try_has_started() -> None:
    # Its start was served, but the answer was lost and the start repeated.
    mine = seen(owner="me")
    assert steps(start_steps(on_retry="new"), None, None, mine, None, mine)[1] == Outcome(seen=mine, started=False)


def test_a_walk_that_gets_nowhere_gives_up_for_now() -> None:
    walking = start_steps()
    next(walking)
    with pytest.raises(IdentityError) as failed:  # noqa: PT012 - at some step, but not much later
        for _ in range(1000):
            walking.send(None)
    assert not failed.value.permanent


@pytest.mark.parametrize("status", ["queued", "running", "succeeded"])
def test_an_author_s_session_of_any_starter_is_used_if_it_is_live_or_has_succeeded(status: str) -> None:
    there = seen(status=status, owner=None, epoch="long ago")
    taken, outcome = steps(find_or_start_named(), there, None, there)
    assert taken[:2] == [LookUp(1), Compare(there)]
    assert outcome == Outcome(seen=there, started=False)


def test_only_a_session_of_the_same_task_instance_between_two_clears_is_not_compared() -> None:
    ours = seen(status="succeeded", instance="dag/run/task/-1/now")
    assert steps(find_or_start_named(instance=ours.instance), ours) == ([LookUp(1)], Outcome(seen=ours, started=False))
    for other in ("dag/run/task/-1/after a clear", "dag/run/task/0/now", None):
        assert steps(find_or_start_named(instance=other), ours)[0] == [LookUp(1), Compare(ours)]
    unstamped = seen(status="succeeded", owner=None)
    assert steps(find_or_start_named(instance=None), unstamped)[0] == [LookUp(1), Compare(unstamped)]
    adopting = find_or_start_named(instance="other", on_mismatch="adopt")
    assert steps(adopting, ours) == ([LookUp(1)], Outcome(seen=ours, started=False))


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_an_author_s_session_that_ended_otherwise_fails_for_good_and_says_what_to_do(status: str) -> None:
    walking = find_or_start_named()
    next(walking)
    walking.send(seen(status=status))
    with pytest.raises(IdentityError, match=f"{status}.*template it.*HelmrSendInputOperator") as refused:
        walking.send(None)
    assert refused.value.permanent


@pytest.mark.parametrize("status", ["failed", "cancelled", "expired"])
def test_an_author_s_session_that_ended_with_what_counts_as_a_result_is_used(status: str) -> None:
    there = seen(status=status, owner="another")
    walking = find_or_start_named(results={"succeeded", status})
    assert steps(walking, there, None)[1] == Outcome(seen=there, started=False)


def test_an_author_s_session_is_started_if_it_does_not_exist() -> None:
    new = seen(owner="me")
    assert steps(find_or_start_named(), None, new) == ([LookUp(1), Start(1)], Outcome(seen=new, started=True))


@given(st.integers(min_value=0, max_value=3000))
def test_the_highest_generation_is_found_in_few_lookups(highest: int) -> None:
    searching = highest_generation()
    lookups, step = 0, next(searching)
    with pytest.raises(StopIteration) as end:  # noqa: PT012 - the end is at the last of many steps
        while True:
            lookups += 1
            step = searching.send(seen(step.generation) if step.generation <= highest else None)
    found = end.value.value
    assert (found.generation if found else 0) == highest
    assert lookups <= 2 * highest.bit_length() + 1


class Model:
    """A control plane reduced to what the steps can see, and tries that run through it in any order."""

    def __init__(self) -> None:
        self.runs: dict[int, dict[str, Any]] = {}

    def find(self, generation: int) -> FoundSession | None:
        run = self.runs.get(generation)
        return None if run is None else seen(generation, run["status"], owner=run["owner"], epoch=run["epoch"])

    def perform(self, step: Step, owner: str, epoch: str) -> FoundSession | None:
        match step:
            case LookUp(generation):
                return self.find(generation)
            case Start(generation):
                if generation in self.runs:
                    return None
                self.runs[generation] = {"status": "running", "owner": owner, "epoch": epoch}
                return self.find(generation)
            case Adopt(there):
                self.runs[there.generation] |= {"owner": owner, "epoch": epoch}
                return self.find(there.generation)
            case Replace(there):
                self.end(there.generation, "cancelled")
                return None
            case Compare():
                raise AssertionError("sessions named by us are not compared")

    def end(self, generation: int, status: str) -> None:
        if self.runs[generation]["status"] == "running":
            self.runs[generation]["status"] = status

    @property
    def live(self) -> list[int]:
        return [generation for generation, run in self.runs.items() if run["status"] not in TERMINAL]


moves = st.lists(
    st.tuples(st.integers(min_value=0, max_value=4), st.sampled_from([*TERMINAL, "", "", "", "", ""])), max_size=120
)


@settings(max_examples=300)
@given(
    tries=st.lists(
        st.tuples(st.sampled_from(["reattach", "new"]), st.sampled_from(["now", "after a clear"])),
        min_size=1,
        max_size=5,
    ),
    moves=moves,
)
def test_tries_in_any_interleaving_never_leave_two_live_sessions(
    tries: list[tuple[Any, str]], moves: list[tuple[int, str]]
) -> None:
    model = Model()
    walkers = [
        find_or_start(owner=f"try {n}", epoch=epoch, on_retry=on_retry) for n, (on_retry, epoch) in enumerate(tries)
    ]
    pending: dict[int, Step] = {n: next(walker) for n, walker in enumerate(walkers)}
    outcomes: dict[int, Outcome] = {}
    # After the chosen interleaving, every start still under way runs to its end undisturbed.
    schedule = [*moves, *((n, "") for n in range(len(tries)) for _ in range(200))]
    for n, ending in schedule:
        if ending and model.runs:
            # Helmr ends runs; a crash of a try is an interleaving in which it is not heard of until the end.
            model.end(max(model.runs), ending)
        elif n in pending:
            answer = model.perform(pending[n], f"try {n}", tries[n][1])
            try:
                pending[n] = walkers[n].send(answer)
            except StopIteration as end:
                del pending[n]
                outcomes[n] = end.value
        assert len(model.live) <= 1
        assert set(model.runs) == set(range(1, len(model.runs) + 1))
    assert not pending
    # The last start that ended while no replacement was under way owns the only live session.
    for live in model.live:
        assert any(outcome.seen.generation == live for outcome in outcomes.values())


def test_a_stamp_of_all_tries_names_the_task_instance_between_two_clears() -> None:
    def stamp(try_number: int, max_tries: int) -> dict[str, Any]:
        ti = SimpleNamespace(
            id=f"try-{try_number}",
            dag_id="d",
            run_id="r",
            task_id="t",
            map_index=-1,
            try_number=try_number,
            max_tries=max_tries,
            log_url=f"https://airflow.example/dags/d/runs/r/tasks/t?try_number={try_number}",
        )
        of = OwnershipMetadata.of(ti, SimpleNamespace(start_date=datetime(2026, 11, 23, 12, tzinfo=UTC)))
        return dict(of.of_all_tries("airflow")["airflow"])

    first = stamp(1, 1)
    assert first["url"] == "https://airflow.example/dags/d/runs/r/tasks/t"
    assert first["prefix"] == "airflow"
    assert stamp(2, 1) == first
    assert stamp(3, 4)["owner"] != first["owner"]
