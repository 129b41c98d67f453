"""Which session a try uses: started at most once under every interleaving of tries, cancels and crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helmr_provider._common.errors import IdentityError
from helmr_provider._sessions.find_or_start import (
    TERMINAL,
    Adopt,
    Compare,
    FoundSession,
    LookUp,
    Outcome,
    Replace,
    Start,
    find_or_start,
    find_or_start_named,
    highest_generation,
)

if TYPE_CHECKING:
    from helmr_provider._sessions.find_or_start import StartSteps, Step


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
