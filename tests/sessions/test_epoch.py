"""The order of the tries of a task instance."""

from __future__ import annotations

import pytest

from helmr_provider._sessions.epoch import is_earlier_epoch, was_given_up

BEFORE, NOW, AFTER = (f"2026-11-{day}T17:00:00+00:00" for day in (22, 23, 24))


@pytest.mark.parametrize(
    ("stamped_epoch", "stamped_try", "given_up"),
    [
        (f"{NOW}/1", 3, True),
        (f"{NOW}/1", 2, False),
        (f"{NOW}/1", 1, False),
        # After a clear, which raises max_tries, and starts a DAG run anew that was over.
        (f"{NOW}/4", 3, True),
        (f"{AFTER}/4", 3, True),
        # Of a DAG run with the same id that was deleted.
        (f"{BEFORE}/4", 3, False),
        # A retry or a clear that comes later than the stamp, whatever the clocks of two schedulers say.
        (f"{AFTER}/1", 1, False),
        ("/4", 3, False),
        ("unknown", 3, False),
        (None, 3, False),
        (f"{NOW}/1", None, False),
    ],
)
def test_a_try_was_given_up_if_a_later_one_wrote_a_stamp(
    stamped_epoch: str | None, stamped_try: int | None, given_up: bool
) -> None:
    found = was_given_up(epoch=f"{NOW}/1", try_number=2, stamped_epoch=stamped_epoch, stamped_try=stamped_try)
    assert found is given_up


def test_epochs_are_ordered_by_the_start_of_the_dag_run_and_then_by_clears() -> None:
    ordered = [f"{BEFORE}/9", f"{NOW}/2", f"{NOW}/10", f"{AFTER}/1"]
    for place, epoch in enumerate(ordered):
        assert [is_earlier_epoch(epoch, other) for other in ordered] == [place < there for there in range(4)]


@pytest.mark.parametrize("unreadable", ["", "/1", "yesterday/1", "2026-11-29T00:00:00/1", f"{NOW}/", f"{NOW}/many"])
def test_an_epoch_that_cannot_be_read_is_neither_earlier_nor_later(unreadable: str) -> None:
    assert not is_earlier_epoch(unreadable, f"{NOW}/1")
    assert not is_earlier_epoch(f"{NOW}/1", unreadable)
